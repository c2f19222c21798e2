"""Run a program for the model: no shell, no secrets, limited time and output."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from pi.prompt.limits import Deadline, ToolError

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
"""The whole environment of the program: no keys, no tokens, no user configuration."""

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Finished:
    """The end of a program.

    `output` includes stderr; `exit_code` is None if pi stopped the program at the output limit.
    """

    exit_code: int | None
    output: bytes


def run(
    argv: Sequence[str | Path], directory: Path, deadline: Deadline, limit: int, descriptors: Sequence[int] = ()
) -> Finished:
    """Run a program until it exits or has printed more than `limit` bytes. It inherits the open `descriptors`.

    Raises:
        ToolError: if it cannot start or the time is up. The program and its children are then killed.
    """
    try:
        process = subprocess.Popen(
            argv,
            cwd=directory,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=descriptors,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot run {Path(argv[0]).name}: {error}") from None
    with process, _killed_at_end(process):
        output = _read(cast("IO[bytes]", process.stdout), deadline, limit)
        if len(output) > limit:
            return Finished(None, output[:limit])
        with contextlib.suppress(subprocess.TimeoutExpired):
            return Finished(process.wait(deadline.remaining_seconds()), output)
        raise ToolError(f"{Path(argv[0]).name} closed its output but kept running, so it was stopped")


@contextlib.contextmanager
def _killed_at_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _read(stream: IO[bytes], deadline: Deadline, limit: int) -> bytes:
    """Return all output, or a little more than `limit` bytes of it."""
    output = bytearray()
    while len(output) <= limit:
        deadline.check()
        if select.select([stream], [], [], _POLL_SECONDS)[0]:
            piece = os.read(stream.fileno(), 65536)
            if not piece:
                break
            output += piece
    return bytes(output)
