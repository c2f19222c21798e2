"""The requests through the door: how many run on each model, and when the last one ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

Place = tuple[str, str]
"""A pod and a model's own name there."""


@dataclass
class Use:
    last: float
    running: int = 0


class Uses:
    def __init__(self) -> None:
        self._uses: dict[Place, Use] = {}

    @contextlib.contextmanager
    def of(self, place: Place) -> Iterator[None]:
        """Count a request until the end of the block."""
        use = self._known(place)
        use.running += 1
        try:
            yield
        finally:
            use.running -= 1
            use.last = time.monotonic()

    def running(self, place: Place) -> int:
        return self._uses[place].running if place in self._uses else 0

    def idle_s(self, place: Place) -> float | None:
        """Return the time since the last request, 0 while one runs; None if there was none."""
        use = self._uses.get(place)
        return None if use is None else 0.0 if use.running else time.monotonic() - use.last

    def note(self, place: Place, s_ago: float = 0) -> None:
        """Note a request that was `s_ago` seconds ago, unless there was a later one."""
        use = self._known(place)
        use.last = max(use.last, time.monotonic() - s_ago)

    def known_since(self, place: Place) -> float:
        """Return `idle_s` of a model that the door begins to watch now, if it did not before."""
        self._known(place)
        return self.idle_s(place) or 0.0

    def forget(self, place: Place) -> None:
        """Forget a model that does not run, unless requests wait for its answer."""
        if not self.running(place):
            self._uses.pop(place, None)

    def _known(self, place: Place) -> Use:
        return self._uses.setdefault(place, Use(time.monotonic()))
