"""A program behind a process of this machine: `ssh`, or a shell."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import time
from typing import IO, cast

from pi.errors import UnreachableError
from pi.on_pod.pace import paced

CHUNK_BYTES = 64 * 1024

PIPE_BYTES = 256 * 1024
"""Size of the pipe from ssh, if the system can set it: with the usual 64 KiB, ssh takes half more time for a log."""

SEND_PATIENCE_S = 60

EXIT_PATIENCE_S = 2

FAILED = 255
"""The exit status of ssh for a connection that failed or was lost."""

PRIVATE = 0o077
"""The umask of ssh, which writes known_hosts and makes the socket of a warm connection."""


class Silence(Exception):
    """No data arrived within the given time."""


class Stream:
    """A running program: bytes to its stdin, bytes from its output (stdout and stderr together).

    It has a process group of its own, so that Ctrl+C in a terminal reaches pi alone.
    """

    def __init__(self, words: list[str], directory: str | None = None) -> None:
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            start_new_session=True,
            umask=PRIVATE,
        )
        self._pipes = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self._stdin, self._stdout = (pipe.fileno() for pipe in self._pipes)
        os.set_blocking(self._stdin, False)
        with contextlib.suppress(
            AttributeError, OSError
        ):  # macOS has no such setting; users have a limit for all pipes
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def send(self, data: bytes) -> None:
        """Send all of it. Raises UnreachableError if the program has ended, or takes no more for a minute."""
        deadline = time.monotonic() + paced(SEND_PATIENCE_S)
        view = memoryview(data)
        try:
            while view:
                if not select.select([], [self._stdin], [], max(0.0, deadline - time.monotonic()))[1]:
                    raise TimeoutError
                with contextlib.suppress(BlockingIOError):
                    view = view[os.write(self._stdin, view[:CHUNK_BYTES]) :]
        except OSError:
            raise UnreachableError("connection-lost", "lost the connection to the pod") from None

    def receive(self, timeout_s: float) -> bytes:
        """Return the next bytes, empty at the end. Raises Silence if none arrive in time."""
        if not select.select([self._stdout], [], [], timeout_s)[0]:
            raise Silence
        return os.read(self._stdout, CHUNK_BYTES)

    def exit_status(self) -> int | None:
        """Return how the program ended, after the end of its output; None if it has not ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(EXIT_PATIENCE_S)
        return None

    def close(self) -> None:
        """Close its stdin and end the local process, which no pod can delay."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        end(self._process)


def end(process: subprocess.Popen[bytes], patience_s: float = 0.5) -> None:
    """Wait shortly for a process to end, then send TERM, then KILL."""
    for signal in (None, process.terminate, process.kill):
        if signal:
            signal()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return
