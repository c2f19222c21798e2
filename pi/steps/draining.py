"""Wait until a model has no requests, by the counters of its server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pi import screen
from pi.calls import top

if TYPE_CHECKING:
    from pi.calls.top import Sample
    from pi.ssh.connection import Connection

CALM_SAMPLES = 2
"""Samples in a row without a request: one may have been on its way during the first."""

ALIVE = ("running", "unresponsive")
"""States of a model that may answer requests."""


class _Drained(Exception):
    """The model has no requests any more, or the time is over."""


class _Drain:
    def __init__(
        self, names: Sequence[str], limit_s: float, elsewhere: Callable[[], int], show: Callable[[str], object]
    ) -> None:
        self._names, self._elsewhere, self._show = names, elsewhere, show
        self._deadline, self._calm = time.monotonic() + limit_s, 0
        self.left = 0

    def take(self, sample: Sample) -> None:
        models = [each for each in sample["models"] if each["name"] in self._names and each["state"] in ALIVE]
        if not models:
            self.left = 0
            raise _Drained
        figures = [each["metrics"] for each in models]
        here = sum(int(each["running"] + each["waiting"]) for each in figures if each)
        self.left = max(here, self._elsewhere())
        self._calm = 0 if self.left else self._calm + 1
        if self._calm == CALM_SAMPLES or time.monotonic() > self._deadline:
            raise _Drained
        self._show(f"  waiting for the last requests of {self._names[0]}: {self.left}")


def drain(connection: Connection, names: Sequence[str], limit_s: float, elsewhere: Callable[[], int]) -> int:
    """Wait until the requests of a model and its replicas have ended, at most `limit_s`. Returns how many still run.

    `elsewhere` returns how many requests to it run, or are on their way, through the door of this machine.
    """
    with screen.progress() as line:
        waiting = _Drain(names, limit_s, elsewhere, line.show)
        try:
            top.sample(connection, waiting.take, None)
        except _Drained:
            return waiting.left
    raise AssertionError("a call without an end ended")  # pragma: no cover
