"""A connection through the pod's SSH server to one of its ports."""

from __future__ import annotations

import contextlib
import socket
import subprocess

from pi.ssh.process import PRIVATE, end

BUFFER_BYTES = 4 * 1024 * 1024
"""Room for what ssh has received, as TCP has for `ssh -L`; the system may give less."""


class Line:
    """A socket whose other end is `ssh -W`, with a socket's methods, time-outs and errors."""

    def __init__(self, words: list[str]) -> None:
        self.socket, theirs = socket.socketpair()
        with contextlib.suppress(OSError):
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        with theirs:
            self._process = subprocess.Popen(
                words,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                umask=PRIVATE,
            )

    @property
    def has_ended(self) -> bool:
        """Whether ssh has ended, so that nothing more arrives."""
        return self._process.poll() is not None

    def settimeout(self, value: float | None, /) -> None:
        self.socket.settimeout(value)

    def sendall(self, data: bytes, /) -> None:
        """Raises TimeoutError if not all of it is on its way in time, or OSError; the line is of no use after that."""
        self.socket.sendall(data)

    def recv(self, size: int, /) -> bytes:
        """Return the next bytes, empty at the end. Raises TimeoutError or OSError."""
        return self.socket.recv(size)

    def close(self) -> None:
        self.socket.close()
        with contextlib.suppress(OSError):
            end(self._process)
