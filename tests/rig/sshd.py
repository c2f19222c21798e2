"""A pod on this machine: a real OpenSSH server on loopback with its own home, keys and PATH."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.rig import machine
from tests.rig.patience import patient

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

KEY_EXCHANGE = "KexAlgorithms -sntrup*,mlkem*"
"""All but the post-quantum ones, which cost a connection five times the CPU time of all the rest. sshd keeps the first
value of an option, so a test can choose others.
"""


def what_is_missing() -> str | None:
    """Return the missing programs for such a pod with the command that installs them, or None."""
    if lacking := [name for name in ("sshd", "ssh", "ssh-keygen", "ssh-agent", "ssh-add") if not machine.which(name)]:
        return f"{', '.join(lacking)} not found; to install what is missing, run: chores/machine.sh ssh"
    return None


def _root_is_locked() -> bool:
    """Return whether sshd accepts root only through PAM, as on Ubuntu, where root has no password."""
    if os.geteuid():
        return False
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("root:!") for line in lines)


class SshdPod:
    """`folder` contains `home/` (the pod's HOME), `bin/` (first in its PATH), keys and sshd's log.

    Both the key `key` and those of `authorized_keys`, if a test writes it, may log in.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        sftp: bool = False,
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
        enter: tuple[str, ...] = (),
    ):
        """`enter` are words before the server's command, such as those of nsenter."""
        self.folder = folder
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.key = folder / "client_key"
        self.authorized_keys = folder / "authorized_keys"
        self.log = folder / "sshd.log"
        self.port = port or free_port()
        self.address = address
        self._enter = enter
        self._options = (*options, *(["Subsystem sftp internal-sftp"] if sftp else []))
        self._environment = environment or {}
        self._server: subprocess.Popen[bytes] | None = None
        for path in (self.home, self.bin):
            path.mkdir(parents=True, exist_ok=True)
        for key in (self.key, folder / "host_key"):
            if not key.exists():
                new_key(key)

    @property
    def ssh(self) -> str:
        """Return the ssh command that connects to it, as a provider shows it."""
        return f"ssh -p {self.port} -i {self.key} {getpass.getuser()}@{self.address}"

    def up(self) -> SshdPod:
        """Start the server and wait until it listens. A second call restarts it."""
        self.down()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        settings = self.folder / "sshd_config"
        settings.write_text("\n".join([*self._settings(), *self._options, KEY_EXCHANGE, ""]))
        with self.log.open("ab") as log:
            begins = log.tell()
            self._server = subprocess.Popen(
                [*self._enter, machine.program("sshd"), "-D", "-e", "-f", settings],
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
        """Stop the server and its connections. Processes of the pod in other sessions continue."""
        if self._server is not None:
            for pid in [*self.sessions(), self._server.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._server.wait()
            self._server = None

    def sessions(self) -> list[int]:
        """Return the pids of the server's connection processes."""
        if self._server is None:
            return []
        found: list[int] = []
        parents = {self._server.pid}
        parent_of = _parents()
        for _ in range(3):
            children = {pid for pid, parent in parent_of.items() if parent in parents}
            found += sorted(children - set(found))
            parents = {pid for pid in children if "sshd" in _name(pid)}
        return [pid for pid in found if "sshd" in _name(pid)]

    def program(self, name: str, text: str) -> Path:
        """Put an executable first in the pod's PATH."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def _settings(self) -> list[str]:
        return [
            f"Port {self.port}",
            f"ListenAddress {self.address}",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.key}.pub {self.authorized_keys}",
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
        """Return the environment of the pod's sessions: its HOME and PATH, and the given `environment`.

        It includes this machine's pip and uv settings, so the pod uses the same package indexes.
        """
        mirrors = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
        programs = machine.pod_environment(self.bin, SYSTEM_PATH)
        return {"HOME": str(self.home), **programs, **mirrors, **self._environment}


def new_key(path: Path) -> None:
    """Write a new key pair, as ssh-keygen does."""
    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.with_name(f"{path.name}.pub").write_bytes(
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pids() -> list[int]:
    """Return the pids of this machine's processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parents() -> dict[int, int]:
    parents = {}
    for pid in pids():
        try:
            with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                parents[pid] = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
    return parents


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
