"""pi's connection to a pod: a `fabric.Connection` carried by the system's OpenSSH."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable

from fabric import Config
from fabric import Connection as FabricConnection
from invoke.runners import Local as LocalRunner
from paramiko.config import SSHConfig

from pi.ssh.line import Line
from pi.ssh.openssh import Way
from pi.ssh.process import PRIVATE, Stream


class Connection(FabricConnection):  # type: ignore[misc]
    """A pod's connection. `run`, `sudo` and Fabric's groups work on it; pi's verbs use `stream` and `dial`.

    It opens itself before the first command. Raises UnreachableError or HostKeyError where Fabric's would raise
    paramiko's errors.
    """

    def __init__(self, way: Way) -> None:
        super().__init__(
            way.host,
            user=way.user or None,
            port=way.port or None,
            config=Config(ssh_config=SSHConfig(), lazy=True),
            gateway=False,
        )
        self._set(_way=way, _is_open=False)

    @property
    def host_key(self) -> str:
        """Type and fingerprint of the host key, or "" if there is none."""
        return self._way.host_key  # type: ignore[no-any-return]

    @property
    def accepted_key(self) -> str | None:
        """Fingerprint of a host key that this connection saw for the first time."""
        return self._way.accepted_key  # type: ignore[no-any-return]

    @property
    def remark(self) -> str:
        """What is unusual about the connection, or ""."""
        return self._way.remark  # type: ignore[no-any-return]

    @property
    def is_connected(self) -> bool:
        return bool(self._is_open)

    def open(self) -> None:
        """Connect and wait for the pod's shell, unless that was done. Raises UnreachableError or HostKeyError."""
        if not self._is_open:
            self._way.ready()
            self._set(_is_open=True)

    def close(self) -> None:
        """End what waits for a command. The warm connection stays for the next one."""
        self._way.close()
        self._set(_is_open=False)

    def reopen(self) -> None:
        """Connect again after the connection was lost."""
        self.close()
        self.open()

    def stream(self, command: str) -> Stream:
        """Run a command line of /bin/sh and return its streams of bytes."""
        self.open()
        stream: Stream = self._way.stream(command)
        return stream

    def words(self, command: str, *, terminal: bool = False) -> list[str]:
        """Return the words of a local program that runs a command line of the login shell on the pod."""
        words: list[str] = self._way.words(command, terminal=terminal)
        return words

    def shell_words(self) -> list[str]:
        """Return the words of a local program that opens the login shell on the pod."""
        words: list[str] = self._way.shell_words()
        return words

    def forward_words(self, ports: Iterable[tuple[int, int]]) -> list[str]:
        """Return the words of a local program that forwards local ports to ports of the pod."""
        words: list[str] = self._way.forward_words(ports)
        return words

    def dial(self, port: int) -> Line:
        """Connect to a port of the pod's loopback."""
        line: Line = self._way.dial(port)
        return line

    def _remote_runner(self) -> Runner:
        return Runner(self)


class Runner(LocalRunner):
    """Invoke's runner of a local command, where the command is `ssh`."""

    def generate_env(self, env: dict[str, str], replace_env: bool) -> dict[str, str]:
        """Return the variables for the pod: those given, and none of this machine."""
        return env

    def start(self, command: str, shell: str, env: dict[str, str]) -> None:
        terminal, self.using_pty = self.using_pty, False  # the terminal is the pod's; here are pipes
        settings = "".join(f"export {name}={shlex.quote(value)} && " for name, value in sorted(env.items()))
        self.process = subprocess.Popen(
            self.context._way.words(settings + command, terminal=terminal),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=PRIVATE,
        )
