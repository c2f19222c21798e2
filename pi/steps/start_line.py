"""The line on which a start shows what it does now."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from pi import screen
from pi.vllm.phases import phase_of, plain


class StartLine:
    """Shows the phase of a start, the last line of its log and a clock; measures how long each phase takes.

    `before` has the seconds of each phase at the last start.
    """

    def __init__(self, before: Mapping[str, float]) -> None:
        self._line = screen.Progress()
        self._began = self._phase_began = time.monotonic()
        self._phase = ""
        self._before = before
        self._took = dict[str, float]()

    def begin(self) -> None:
        """Clear the line and set the clock to 0."""
        self._end_phase()
        self._began = time.monotonic()
        self._line.clear()

    def enter(self, phase: str) -> None:
        """Begin a phase, unless it is the present one."""
        if phase != self._phase:
            self._end_phase()
            self._phase, self._phase_began = phase, time.monotonic()

    def read(self, log: str) -> None:
        """Show the last line of a piece of vLLM's log, and the phase that its lines tell."""
        lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
        for line in lines:
            if phase := phase_of(line):
                self.enter(phase)
        if lines and (last := plain(lines[-1])):
            self.show(last)

    def show(self, text: str, *, quiet: bool = False) -> None:
        """Show a text after the phase. A `quiet` one appears without a terminal only if it lasts."""
        phase = self._phase
        before = self._before.get(phase)
        last = f"; last time {screen.whole_seconds(before)}" if before else ""
        named = f"{phase}: " if phase and phase not in text.lower() else ""
        clock = screen.clock_since(self._phase_began if phase else self._began, last)
        self._line.run(f"  {named}{text}", clock, quiet=quiet)

    def took_s(self) -> dict[str, float]:
        """End the present phase and return the seconds of all phases."""
        self._end_phase()
        return self._took

    def clear(self) -> None:
        self._line.clear()

    def _end_phase(self) -> None:
        if self._phase:
            took = time.monotonic() - self._phase_began
            self._took[self._phase] = self._took.get(self._phase, 0) + took
            self._phase = ""
