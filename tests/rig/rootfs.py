"""A pod in the root file system of a Debian release: its own packages, Python, OpenSSH server and process table.

`debootstrap` makes each file system once, in .cache/rootfs. A pod changes a copy of it: an overlay in a mount namespace,
which ends with the pod. The network is this machine's, because apt-get needs Debian's packages.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.rig.patience import patient
from tests.rig.sshd import free_port

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "rootfs"
MIRROR = "http://deb.debian.org/debian"
WHEELS = "/srv/wheels"

BEGIN = """\
set -e
root=$1 base=$2 changes=$3
mount -t overlay overlay -o "lowerdir=$base,upperdir=$changes/upper,workdir=$changes/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mkdir -p "$root/run/sshd"
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/sshd -D -e -f /etc/ssh/pod_config
"""
"""Runs as the first process of the pod, in its own mount and process namespaces."""

PYTHON = """\
#!/bin/sh
base=/opt/python
exec "$base/ld.so" --argv0 "$0" --library-path "$base/lib" "$base/bin/python3.11" "$@"
"""
"""Runs Debian 12's Python with its own C library, on an older Debian."""


def base(suite: str, *packages: str) -> Path:
    """Return the root file system of a Debian release, without Python; make it if it is not there."""
    made = CACHE / "-".join([suite, *packages])
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = made.with_name(f"{made.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        chosen = f"--include={','.join(['openssh-server', *packages])}"
        subprocess.run(
            ["debootstrap", "--variant=minbase", chosen, suite, fresh, MIRROR], check=True, stdout=subprocess.DEVNULL
        )
        fresh.rename(made)
    return made


class DebianPod:
    """A machine that pi can reach as root. `root` is its file system while it is up."""

    def __init__(self, folder: Path, system: Path, name: str = "box") -> None:
        self.name = name
        self.root, self._changes = folder / "root", folder / "changes"
        for path in (self.root, self._changes / "upper", self._changes / "work"):
            path.mkdir(parents=True)
        self.key = folder / "client_key"
        self.log = folder / "sshd.log"
        self.port = free_port()
        self._base = system
        self._server: subprocess.Popen[bytes] | None = None
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        settings = [f"Port {self.port}", "ListenAddress 127.0.0.1", "AuthorizedKeysFile /etc/ssh/pod_keys"]
        self.write("/etc/ssh/pod_config", "\n".join([*settings, "StrictModes no", "UsePAM no", ""]))
        self.write("/etc/ssh/pod_keys", self.key.with_suffix(".pub").read_text())

    @property
    def ssh(self) -> str:
        return f"ssh -p {self.port} -i {self.key} root@127.0.0.1"

    def path(self, path: str) -> Path:
        """Return a path in the pod, for changes before it is up."""
        return self._changes / "upper" / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the pod, before it is up."""
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)
        self.path(path).chmod(mode)

    def give_python(self, system: Path) -> None:
        """Give an older Debian the Python of another root file system, as a mirror of Pythons would."""
        place = self.path("/opt/python")
        shutil.copytree(system / "usr/lib/python3.11", self.path("/usr/lib/python3.11"), symlinks=True)
        for folder in ("bin", "lib"):
            (place / folder).mkdir(parents=True)
        shutil.copy(system / "usr/bin/python3.11", place / "bin")
        shutil.copy(next(system.glob("lib64/ld-linux-*.so.2")), place / "ld.so")
        for library in system.glob("usr/lib/*-linux-gnu/*.so.*"):
            shutil.copy(library, place / "lib")
        self.write("/usr/local/bin/python3.11", PYTHON, 0o755)

    def up(self) -> DebianPod:
        """Start its server as the first process, and wait until it listens."""
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", BEGIN, "sh"]
                + [str(path) for path in (self.root, self._base, self._changes)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + patient(20)
        while time.monotonic() < deadline and self._server.poll() is None:
            if b"Server listening on" in self.log.read_bytes():
                return self
            time.sleep(0.05)
        raise RuntimeError(f"the pod did not start: {self.log.read_text()[-500:]}")

    def down(self) -> None:
        """End all its processes; the kernel does so when the first one ends."""
        if self._server is not None:
            self._server.send_signal(signal.SIGKILL)
            self._server.wait()


@contextmanager
def index() -> Iterator[str]:
    """Serve a package index on loopback that has the pinned uv alone. Yields its address."""
    script = (ROOT / "pi" / "setup" / "pod_setup.sh").read_text()
    [pinned] = re.findall(r"^readonly UV_PINNED=(\S+)", script, re.M)
    folder = CACHE / "index" / "uv"
    if not list(folder.glob(f"uv-{pinned}-*.whl")):
        words = [
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            str(folder),
            f"uv=={pinned}",
        ]
        subprocess.run([sys.executable, *words], check=True)
    handler = partial(_Quiet, directory=str(folder.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=True) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Log nothing."""


def reaches_debian() -> bool:
    """Return whether this machine can look up Debian's mirror."""
    try:
        return bool(socket.getaddrinfo("deb.debian.org", 80))
    except OSError:
        return False
