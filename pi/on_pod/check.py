"""What a machine has before its setup: the facts that decide whether pi can set it up, in a few seconds."""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from http.client import HTTPException
from typing import List, Optional
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

from pi.on_pod import container, gpus, machine, process, reading, records, storage, survey, venvs
from pi.on_pod.check_shapes import CheckAnswer, CheckRequest, FolderFacts, LineFacts, Rights, VenvFacts
from pi.on_pod.pace import paced
from pi.on_pod.wire import Cancelled, Wire

PROGRAMS = ("g++", "curl", "bash", "flock", "timeout", "realpath")
"""Programs that setup uses or installs."""

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")

HUB_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "XDG_CACHE_HOME")
"""Variables by which huggingface_hub and transformers choose where models are."""

POLL_S = 0.2

FOLDER_PATIENCE_S = 5

SUDO_PATIENCE_S = 10

LINE_PATIENCE_S = 6

LINE_WHOLE_S = 20
"""For two answers: the page of an index, and a piece of a wheel."""

SAMPLE_S, SAMPLE_BYTES = 1.5, 64 * 1024 * 1024
"""How long, and how much, pi reads to measure a line."""

MAX_PAGE = 8 * 1024 * 1024


def check(wire: Wire, request: CheckRequest) -> CheckAnswer:
    """Return the facts of the machine. Changes nothing but files that it removes again."""
    wire.progress("asking the machine")
    return patiently(wire, request)


def patiently(wire: Wire, request: CheckRequest) -> CheckAnswer:
    """Return the facts of the machine, which may take as long as nvidia-smi. Raises Cancelled."""
    pool = ThreadPoolExecutor(max_workers=1)
    looking = pool.submit(look, request)
    while not looking.done():
        wait([looking], POLL_S)
        try:
            wire.check_cancelled()
        except Cancelled:
            gpus.give_up()
            raise
    return looking.result()


def look(request: CheckRequest) -> CheckAnswer:
    """Return the facts of the machine; questions that may take long are asked side by side."""
    home = os.path.expanduser("~")
    with ThreadPoolExecutor(max_workers=12) as pool:
        lines = [pool.submit(_line, address) for address in request["addresses"]]
        cards = pool.submit(gpus.described, request["gpu_query"])
        cuda = pool.submit(gpus.cuda_version)
        rights = pool.submit(_rights)
        paths = [home, tempfile.gettempdir(), request["models_path"] or storage.hub_cache()]
        folders = [pool.submit(_folder, path) for path in paths]
        venv = pool.submit(_venv, venvs.VENV)
    return {
        "gpus": cards.result(),
        "cuda": cuda.result(),
        "system": _system(),
        "arch": platform.machine(),
        "glibc": _glibc(),
        "python": platform.python_version(),
        "user": _user(),
        "rights": rights.result(),
        "memory_mib": survey.meminfo("MemTotal") // 1024,
        "cpus": len(os.sched_getaffinity(0)),
        "home": folders[0].result(),
        "temporary": folders[1].result(),
        "models": folders[2].result(),
        "programs": [name for name in PROGRAMS if shutil.which(name)],
        "has_apt": shutil.which("apt-get") is not None,
        "package_lock": _package_lock(),
        "time_s": time.time(),
        "vllm_version": venvs.vllm_version(),
        "venv": venv.result(),
        "hub_variables": {name: os.environ[name] for name in HUB_VARIABLES if os.environ.get(name)},
        "ports": sorted(process.listening_ports()),
        "public": container.ports(),
        "provider": container.provider(),
        "hides_variables": container.hides_variables(),
        "lines": [line.result() for line in lines],
        "boot": process.boot(),
        "machine": machine.identity(),
    }


def _system() -> str:
    named = re.search(r'^PRETTY_NAME="?([^"\n]*)', reading.beginning("/etc/os-release", 65536), re.M)
    return named.group(1) if named else platform.system()


def _glibc() -> Optional[str]:
    """Return the version of the GNU C library, or None for another one, such as musl."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return None
    return version if name == "glibc" else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def _rights() -> Rights:
    """Return how setup may install packages: as root, with sudo, or not at all."""
    if os.geteuid() == 0:
        return "root"
    return "sudo" if _answer(["sudo", "-n", "true"], SUDO_PATIENCE_S) is not None else "none"


def _folder(path: str) -> FolderFacts:
    """Return the free space of a folder, and why programs in it do not run."""
    problem = storage.trouble(path)
    if problem:
        return {"path": path, "free_bytes": 0, "problem": problem.rpartition(": ")[2], "runs": False}
    place = storage.existing(path)
    free = shutil.disk_usage(place).free
    try:
        runs = _runs_programs(place)
    except OSError as error:
        return {"path": path, "free_bytes": free, "problem": error.strerror or str(error), "runs": False}
    return {"path": path, "free_bytes": free, "problem": None, "runs": runs}


def _runs_programs(folder: str) -> bool:
    """Return whether a program in a folder may run; a mount with `noexec` forbids it. Raises OSError."""
    descriptor, path = tempfile.mkstemp(prefix=".pi-check-", dir=folder)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write("#!/bin/sh\nexit 0\n")
        os.chmod(path, 0o700)
        try:
            return subprocess.run([path], stdin=subprocess.DEVNULL, timeout=paced(FOLDER_PATIENCE_S)).returncode == 0
        except (PermissionError, subprocess.TimeoutExpired):
            return False
    finally:
        os.unlink(path)


def _venv(folder: str) -> Optional[VenvFacts]:
    """Return the Python of a venv (None: it does not run), and whether pi made the venv. None if there is none."""
    if not os.path.lexists(folder):
        return None
    code = "import platform; print(platform.python_version())"
    version = _answer([os.path.join(folder, "bin", "python"), "-I", "-S", "-c", code], FOLDER_PATIENCE_S)
    making = os.path.join(records.HOME, "making-" + os.path.basename(folder))
    marks = (os.path.join(folder, ".pi-made"), os.path.join(folder, ".pi-checked"), making)
    is_adopted = os.path.exists(os.path.join(folder, ".pi-adopted"))
    return {"python": version or None, "made_by_pi": any(map(os.path.exists, marks)) and not is_adopted}


def _package_lock() -> Optional[str]:
    """Return the process that installs Debian packages now, such as "pid 77 (apt-get)", or None."""
    inodes = set()
    for path in LOCKS:
        try:
            inodes.add(os.stat(path).st_ino)
        except OSError:
            continue
    holder = process.lock_holder(inodes)
    return process.described(holder) if holder else None


def _line(address: str) -> LineFacts:
    """Return how fast bytes come from a host, or why none come. A server that trickles cannot stretch it."""
    try:
        return reading.within(paced(LINE_WHOLE_S), lambda: _measured(address))
    except TimeoutError:
        problem = "no whole answer within %d s" % LINE_WHOLE_S
        return {"host": urlsplit(address).netloc, "bytes_per_s": None, "problem": problem}


def _measured(address: str) -> LineFacts:
    """Return the facts of a line. An HTTP error counts as reached."""
    host = urlsplit(address).netloc
    began = time.monotonic()
    try:
        page, count = _read(address, MAX_PAGE)
        wheels = re.findall(r'href="([^"#]+\.whl)', page.decode("utf-8", "replace"))
        if wheels:
            began = time.monotonic()
            _, count = _read(urljoin(address, wheels[-1]), SAMPLE_BYTES)
    except HTTPError:
        return {"host": host, "bytes_per_s": None, "problem": None}
    except (OSError, ValueError, HTTPException) as error:
        return {"host": host, "bytes_per_s": None, "problem": str(getattr(error, "reason", error))[:200]}
    return {"host": host, "bytes_per_s": int(count / max(0.001, time.monotonic() - began)), "problem": None}


def _read(address: str, limit: int) -> "tuple[bytes, int]":
    """Return the first bytes of an address, and how many came within the time of a sample. Raises OSError."""
    kept: List[bytes] = []
    count = 0
    with urlopen(Request(address, headers={"User-Agent": "pi"}), timeout=paced(LINE_PATIENCE_S)) as reply:
        deadline = time.monotonic() + SAMPLE_S
        while count < limit and time.monotonic() < deadline:
            chunk = reply.read1(256 * 1024)
            if not chunk:
                break
            count += len(chunk)
            if count <= MAX_PAGE:
                kept.append(chunk)
    return b"".join(kept), count


def _answer(words: List[str], timeout_s: float) -> Optional[str]:
    """Return the output of a program, or None if it fails or does not answer."""
    try:
        ended = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=paced(timeout_s),
            env=dict(os.environ, LC_ALL="C"),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.decode("utf-8", "replace").strip() if ended.returncode == 0 else None
