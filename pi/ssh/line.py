"""A connection through the pod's SSH server to one of its ports."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable

from pi.ssh.process import end

REASON_PATIENCE_S = 2


class Line:
    """A socket whose other end is `ssh -W`, with a socket's methods, time-outs and errors.

    `refusal` returns the error if the server opened no tunnel: then the stream ends before its first byte.
    """

    def __init__(self, words: list[str], refusal: Callable[[], Exception]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                words, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL, start_new_session=True
            )
        self._refusal = refusal
        self._has_received = False

    def settimeout(self, value: float | None, /) -> None:
        self._socket.settimeout(value)

    def sendall(self, data: bytes, /) -> None:
        """Raises TimeoutError if not all of it is on its way in time, or OSError; the line is of no use after that."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self._raise_refusal()
            raise

    def recv(self, size: int, /) -> bytes:
        """Return the next bytes, empty at the end. Raises TimeoutError, OSError or UnreachableError."""
        data = self._socket.recv(size)
        if not data:
            self._raise_refusal()
        self._has_received = True
        return data

    def close(self) -> None:
        self._socket.close()
        with contextlib.suppress(OSError):
            end(self._process)

    def _raise_refusal(self) -> None:
        """Raise the reason if ssh failed before the first byte."""
        if self._has_received:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.wait(REASON_PATIENCE_S) == 255:
                raise self._refusal()
