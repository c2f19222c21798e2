"""Wait until a model has no requests, by the counters of its server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pi import screen
from pi.calls import top

if TYPE_CHECKING:
    from pi.calls.top import Sample
    from pi.ssh.connection import Connection

CALM_SAMPLES = 2
"""Samples in a row without a request: one may have been on its way during the first."""


class _Drained(Exception):
    """The model has no requests any more, or the time is over."""


class _Drain:
    def __init__(self, name: str, limit_s: float, elsewhere: Callable[[], int], show: Callable[[str], object]) -> None:
        self._name, self._elsewhere, self._show = name, elsewhere, show
        self._deadline, self._calm = time.monotonic() + limit_s, 0
        self.left = 0

    def take(self, sample: Sample) -> None:
        own = [each for each in sample["models"] if self._name in (each["name"], each.get("replica_of"))]
        if not any(each["state"] in ("running", "unresponsive") for each in own):
            self.left = 0
            raise _Drained
        counted = [each["metrics"] for each in own if each["metrics"]]
        here = sum(int(figures["running"] + figures["waiting"]) for figures in counted)
        self.left = max(here, self._elsewhere())
        self._calm = 0 if self.left else self._calm + 1
        if self._calm == CALM_SAMPLES or time.monotonic() > self._deadline:
            raise _Drained
        self._show(f"  waiting for the last requests of {self._name}: {self.left}")


def drain(connection: Connection, name: str, limit_s: float, elsewhere: Callable[[], int]) -> int:
    """Wait until the requests of a model have ended, at most `limit_s`. Returns how many still run.

    `elsewhere` returns how many requests to it run, or are on their way, through the door of this machine.
    """
    with screen.progress() as line:
        waiting = _Drain(name, limit_s, elsewhere, line.show)
        try:
            top.sample(connection, waiting.take, None)
        except _Drained:
            return waiting.left
    raise AssertionError("a call without an end ended")  # pragma: no cover
