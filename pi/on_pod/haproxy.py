"""HAProxy on the pod: the system's program, or that of the distribution's package in ~/.pi/haproxy."""

from __future__ import annotations

import glob
import os
import re
import shlex
import shutil
import subprocess
import time
from typing import Dict, List, Optional, Tuple

from pi.on_pod import process, records, writing
from pi.on_pod.pace import paced
from pi.on_pod.wire import PodError, Wire

LEAST = (2, 6)
"""Version that has `balance hash` and servers that are added while it runs."""

FOLDER = os.path.join(records.HOME, "haproxy")

PROGRAM = os.path.join(FOLDER, "haproxy")
"""A script that runs the unpacked program with the unpacked libraries."""

UNPACKED = "root/usr/sbin/haproxy"

OUTPUT = "output"
"""What the programs that fetch it print."""

SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

FETCH_S = 180
"""Time for apt-get to fetch its lists (about 10 MB) and the packages (about 2 MB)."""

VERSION = re.compile(r"HAProxy version ([0-9]{1,3})\.([0-9]{1,3})")


def provide(wire: Wire) -> str:
    """Return the path of a HAProxy that pi can use, and fetch its package if there is none. Raises PodError."""
    own = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":" + SYSTEM)
    tried: List[str] = []
    for program in filter(None, (own, PROGRAM)):
        version = _version(program)
        if version and version >= LEAST:
            return program
        tried += ["%s has version %d.%d" % ((program, *version))] if version else []
    wire.progress("fetching HAProxy's package")
    problem = _fetch(wire)
    version = _version(PROGRAM) if problem is None else None
    if version and version >= LEAST:
        return PROGRAM
    if version:
        tried.append("the package of this system has version %d.%d" % version)
    why = "; ".join(tried) or problem or "the unpacked package does not run"
    raise PodError("no_haproxy", "replicas need HAProxy %d.%d or newer on the pod: %s" % (*LEAST, why))


def _version(program: str) -> Optional[Tuple[int, int]]:
    try:
        found = VERSION.search(subprocess.run([program, "-v"], capture_output=True, timeout=10).stdout.decode())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return (int(found[1]), int(found[2])) if found else None


def _fetch(wire: Wire) -> Optional[str]:
    """Unpack HAProxy's package and the libraries that are missing. Returns why that failed, or None.

    It needs no root, starts no service, and changes nothing outside ~/.pi: apt-get has lists and a cache of its own.
    """
    apt, dpkg = (shutil.which(name, path=SYSTEM) for name in ("apt-get", "dpkg-deb"))
    if not apt or not dpkg:
        return "this system has no apt-get to fetch it"
    fresh = FOLDER + ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    for name in ("apt/lists/partial", "apt/cache/archives/partial", "root"):
        os.makedirs(os.path.join(fresh, name), mode=0o700)
    options = {
        "Dir::State::Lists": os.path.join(fresh, "apt/lists"),
        "Dir::Cache": os.path.join(fresh, "apt/cache"),
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "1",
    }
    words = [apt, "-qq", "-y", *(word for item in options.items() for word in ("-o", "%s=%s" % item))]
    install = ["--no-install-recommends", "--download-only", "--reinstall", "install", "haproxy"]
    deadline = time.monotonic() + paced(FETCH_S)
    problem = _run(wire, [*words, "update"], deadline) or _run(wire, [*words, *install], deadline)
    for package in sorted(glob.glob(os.path.join(glob.escape(fresh), "apt/cache/archives/*.deb"))):
        problem = problem or _run(wire, [dpkg, "-x", package, os.path.join(fresh, "root")], deadline)
    if problem is None and not os.path.exists(os.path.join(fresh, UNPACKED)):
        problem = "the package has no program"
    if problem:
        shutil.rmtree(fresh, ignore_errors=True)
        return "apt-get could not fetch it: %s" % problem
    shutil.rmtree(os.path.join(fresh, "apt"))
    os.unlink(os.path.join(fresh, OUTPUT))
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.rename(fresh, FOLDER)
    _write_script()
    return None


def _write_script() -> None:
    root = os.path.join(glob.escape(FOLDER), "root")
    libraries = [found for part in ("usr/lib", "lib") for found in glob.glob(os.path.join(root, part, "*-linux-gnu*"))]
    words = shlex.quote(":".join(libraries)), shlex.quote(os.path.join(FOLDER, UNPACKED))
    writing.replace(PROGRAM, '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' % words)
    os.chmod(PROGRAM, 0o700)


def _run(wire: Wire, words: List[str], deadline: float) -> Optional[str]:
    """Run a program. Returns the last line of its output if it fails or takes too long."""
    environment: Dict[str, str] = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
    output = os.path.join(FOLDER + ".new", OUTPUT)
    with open(output, "wb") as file:
        running = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    try:
        while running.poll() is None:
            wire.check_cancelled()
            if time.monotonic() > deadline:
                return "it took longer than %d s" % FETCH_S
            time.sleep(0.05)
    finally:
        if running.poll() is None:
            process.kill_group(running.pid)
            running.wait()
    if running.returncode == 0:
        return None
    with open(output, "rb") as file:
        lines = file.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "exit code %d" % running.returncode
