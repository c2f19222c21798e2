"""A program run for the model: no shell, no secrets in its environment, an end in time and in size."""

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
"""All that the program is told: no keys, no tokens, no configuration of the user's."""

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Finished:
    """`output` is what it printed, errors included; `exit_code` is None when it was stopped at the ceiling."""

    exit_code: int | None
    output: bytes


def run(argv: Sequence[str | Path], directory: Path, deadline: Deadline, ceiling: int) -> Finished:
    """Runs a program until it ends or has printed more than `ceiling` bytes.

    Raises:
        ToolError: when it cannot be started, or the deadline is over; the program and its children are ended.
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
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot run {Path(argv[0]).name}: {error}") from None
    with process, _ended_group(process):
        output = _read(cast("IO[bytes]", process.stdout), deadline, ceiling)
        if len(output) > ceiling:
            return Finished(None, output[:ceiling])
        with contextlib.suppress(subprocess.TimeoutExpired):
            return Finished(process.wait(deadline.remaining_seconds()), output)
        raise ToolError(f"{Path(argv[0]).name} closed its output but did not end, and was stopped")


@contextlib.contextmanager
def _ended_group(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _read(stream: IO[bytes], deadline: Deadline, ceiling: int) -> bytes:
    """All output, or a little more than `ceiling` bytes of it."""
    output = bytearray()
    while len(output) <= ceiling:
        deadline.check()
        if select.select([stream], [], [], _POLL_SECONDS)[0]:
            piece = os.read(stream.fileno(), 65536)
            if not piece:
                break
            output += piece
    return bytes(output)
