"""Kill pi at a step of its work: `PI_TEST_KILL` names a file for the steps, and after how many of them pi dies.

A step is the first event of a kind in a call to a pod, or a write of pods.json. They come from pi's own code, so a test
kills at each step that there is. Only forks of the rig know the variable.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from pi.calls import call
from pi.calls.events import Event
from pi.pods import state

VARIABLE = "PI_TEST_KILL"


def value(file: Path, after: int = 0) -> str:
    """Return the value of VARIABLE for a pi that dies after so many steps; after 0 it lives on."""
    return f"{after}:{file}"


def install() -> None:
    """Note the steps of this process, and die after the given one."""
    count, _, path = os.environ[VARIABLE].partition(":")
    left, seen = int(count), set[str]()
    events, write = call.Call.events, state._write

    def step(name: str) -> None:
        nonlocal left
        with Path(path).open("a") as file:
            file.write(f"{name}\n")
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def noted_events(self: call.Call) -> Iterator[Event]:
        for event in events(self):
            name = f"{id(self)} {type(event).__name__}"
            if name not in seen:
                seen.add(name)
                step(f"{self._call['verb']}: {type(event).__name__}")
            yield event

    def noted_write(file: Path, text: str) -> None:
        step("pods.json: before a write")
        write(file, text)
        step("pods.json: after a write")

    call.Call.events = noted_events  # type: ignore[method-assign]
    state._write = noted_write
