"""Notice a log or a download that stands still."""

from __future__ import annotations

import re
import time
from typing import Callable

from pi.on_pod.pace import paced

STILL_S = 120
"""After this time without a new line, pi says where vLLM stands; loading and compiling write more often."""

AGAIN_S = 900

WAITING = re.compile(
    r"No available shared memory broadcast block|Waiting for \d+ local, \d+ remote core engine|Still waiting|"
    r"still loading|Waiting for init message"
)
"""Lines that vLLM repeats while it waits for another of its processes."""


class Watch:
    """Measures how long a log has not moved; lines that only say that vLLM waits do not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved = clock()
        self._next_s = paced(STILL_S)

    def feed(self, text: str) -> None:
        if any(line.strip() and not WAITING.search(line) for line in text.splitlines()):
            self.moved()

    def moved(self) -> None:
        self._moved = self._clock()
        self._next_s = paced(STILL_S)

    def still_s(self) -> float:
        """Return the seconds since the last line that shows progress."""
        return self._clock() - self._moved

    def is_due(self) -> bool:
        """Return whether pi should say that the log stands still: first after STILL_S, then every AGAIN_S."""
        if self.still_s() < self._next_s:
            return False
        self._next_s = self.still_s() + paced(AGAIN_S)
        return True
