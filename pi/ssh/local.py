"""The way to this machine itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

from pi.errors import InputError
from pi.ssh.process import Stream

CONNECT_TIMEOUT_S = 10


class Local:
    """The way to this machine itself: the same programs, run by a shell here."""

    host = "127.0.0.1"
    port = 0
    where = "this machine"
    host_key = ""
    accepted_key: str | None = None
    remark = ""
    user = ""

    def start(self, *, fresh: bool = False) -> None:
        """Nothing needs time to connect."""

    def ready(self) -> None:
        """A shell is always there."""

    def warm_up(self) -> None:
        """Nothing needs time to connect."""

    def stream(self, command: str) -> Stream:
        return Stream(["/bin/sh", "-c", command], str(Path.home()))

    def dial(self, port: int) -> socket.socket:
        line = socket.create_connection((self.host, port), timeout=CONNECT_TIMEOUT_S)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def words(self, command: str, *, terminal: bool = False) -> list[str]:
        return ["/bin/sh", "-c", command]

    def shell_words(self) -> list[str]:
        return [os.environ.get("SHELL") or "/bin/sh", "-l"]

    def forward_words(self, ports: Iterable[tuple[int, int]]) -> list[str]:
        """This machine needs no tunnel to itself."""
        raise InputError("tunnel-local", "the pod is this machine, and needs no tunnel")

    def forget_host_key(self) -> None:
        """This machine has none."""

    def close(self) -> None:
        """Nothing is open."""
