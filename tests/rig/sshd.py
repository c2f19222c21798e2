"""A pod on this machine: a real OpenSSH server on loopback with a home, keys and a PATH of its own."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.rig import machine
from tests.rig.patience import patient

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def what_is_missing() -> str | None:
    """What this machine lacks to run such a pod, with the command that brings it, or None."""
    if lacking := [name for name in ("sshd", "ssh", "ssh-keygen", "ssh-agent", "ssh-add") if not machine.which(name)]:
        return f"{', '.join(lacking)} not found; to get what is missing, run: chores/machine.sh ssh"
    return None


def _root_is_locked() -> bool:
    """Return whether sshd lets root in by PAM alone, as on an Ubuntu whose root has no password."""
    if os.geteuid():
        return False
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("root:!") for line in lines)


class SshdPod:
    """`folder` holds everything: `home/` (the pod's HOME), `bin/` (first in its PATH), keys and sshd's log."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        sftp: bool = False,
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ):
        self.folder = folder
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.key = folder / "client_key"
        self.log = folder / "sshd.log"
        self.port = port or free_port()
        self._options = (*options, *(["Subsystem sftp internal-sftp"] if sftp else []))
        self._environment = environment or {}
        self._server: subprocess.Popen[bytes] | None = None
        for path in (self.home, self.bin):
            path.mkdir(parents=True, exist_ok=True)
        for key in (self.key, folder / "host_key"):
            if not key.exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)

    @property
    def ssh(self) -> str:
        """The ssh command that leads to it, as a provider would show it."""
        return f"ssh -p {self.port} -i {self.key} {getpass.getuser()}@127.0.0.1"

    def up(self) -> SshdPod:
        """Start the server and wait until it listens. A second call is a restart."""
        self.down()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        settings = self.folder / "sshd_config"
        settings.write_text("\n".join([*self._settings(), *self._options, ""]))
        with self.log.open("ab") as log:
            begins = log.tell()
            self._server = subprocess.Popen(
                [machine.program("sshd"), "-D", "-e", "-f", settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + patient(10)
        while time.monotonic() < deadline and self._server.poll() is None:
            if b"Server listening on" in self.log.read_bytes()[begins:]:
                return self
            time.sleep(0.02)
        raise RuntimeError(f"sshd did not start: {self.log.read_text()[-500:]}")

    def down(self) -> None:
        """End the server and the sessions it serves; what runs in sessions of its own on the pod lives on."""
        if self._server is not None:
            for pid in [*self.sessions(), self._server.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._server.wait()
            self._server = None

    def sessions(self) -> list[int]:
        """Pids of the server's processes that carry a connection."""
        if self._server is None:
            return []
        found: list[int] = []
        parents = {self._server.pid}
        for _ in range(3):
            children = {pid for pid, parent in _parents().items() if parent in parents}
            found += sorted(children - set(found))
            parents = {pid for pid in children if "sshd" in _name(pid)}
        return [pid for pid in found if "sshd" in _name(pid)]

    def program(self, name: str, text: str) -> Path:
        """Put an executable into the pod's PATH, before the system's own."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def _settings(self) -> list[str]:
        return [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.key}.pub",
            f"PidFile {self.folder / 'sshd.pid'}",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            f"UsePAM {'yes' if _root_is_locked() else 'no'}",
            "StrictModes no",
            "MaxStartups 200",
            *machine.sshd_settings(),
            "SetEnv " + " ".join(f'"{name}={value}"' for name, value in self.environment().items()),
        ]

    def environment(self) -> dict[str, str]:
        """The environment of the pod's sessions: its own HOME and PATH, and what `environment` said.

        pip's and uv's settings of this machine are in it, so that the pod installs from where this machine does.
        """
        mirrors = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
        programs = machine.pod_environment(self.bin, SYSTEM_PATH)
        return {"HOME": str(self.home), **programs, **mirrors, **self._environment}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    return parents


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
