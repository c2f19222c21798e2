"""A link to a pod: run a program there, dial a port of it."""

from __future__ import annotations

from typing import Protocol

CHUNK_BYTES = 64 * 1024

TUNNELS_PROHIBITED = 1
"""SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, RFC 4254 section 5.1."""

GATEWAY = (
    "if this is a provider's SSH gateway, it runs no commands: use the pod's own address (\"SSH over exposed TCP\")"
)


class Silence(Exception):
    """Nothing came for the given time."""


class Stream(Protocol):
    """A program that runs on the pod: bytes to its stdin, bytes from its output."""

    def send(self, data: bytes) -> None: ...

    def receive(self, timeout_s: float) -> bytes:
        """The next bytes; empty at the end. Raises Silence when none come in time."""

    def exit_status(self) -> int | None:
        """How the program ended, asked after the end of its output; None where the connection ended instead."""

    def close(self) -> None: ...


class Line(Protocol):
    """A connection to a port of a pod, with a socket's methods, time-outs and errors."""

    def settimeout(self, value: float | None, /) -> None: ...
    def sendall(self, data: bytes, /) -> object: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class Link(Protocol):
    """An open way to a pod. `host` is its address as seen from here."""

    host: str
    accepted_key: str | None
    """Fingerprint of a host key that this connection saw for the first time."""
    host_key: str
    """The key that the pod showed (see `pi.ssh.hostkeys.described`); empty where there is none."""
    unread_hosts: dict[str, list[int]]
    """Numbers of the lines in known_hosts files that could not be read, by file."""

    def run(self, command: str) -> Stream: ...

    def dial(self, port: int) -> Line:
        """A connection to the pod's loopback `port`. Raises OSError where nothing listens there, UnreachableError."""

    def reopen(self) -> None:
        """Connect again, the same way with the same checks, after the connection was lost."""

    def close(self) -> None: ...


CAUSES = "either the provider put a new pod at this address (normal for rented pods) or someone is in between"
