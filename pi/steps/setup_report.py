"""Show the progress of a setup."""

from __future__ import annotations

import time

from pi import screen
from pi.calls.events import Download, Event, Log, Reconnected, Reconnecting, Step
from pi.calls.failures import SetupError
from pi.planning.preflight import MachineFacts, findings
from pi.steps import durations, on_idle
from pi.steps.check_report import machine_line
from pi.steps.reports import downloading, reconnecting

QUOTED = 5
"""Lines of a failed step that are printed; the pod keeps all of them."""


class SetupReport:
    """Shows each step of a setup and its time; on a terminal also a clock, downloads, and the installers' output.

    A step with nothing to do takes one line; any other first prints its purpose. `then` is its `--on-idle`.
    """

    def __init__(self, pod: str, then: str | None = None) -> None:
        self._pod, self._then = pod, then
        self._live = screen.Progress()
        self._began = time.monotonic()
        self._step, self._purpose, self._text = "", "", ""
        self._work = f"setup {pod}"
        self._before, self._took = durations.load(self._work), dict[str, float]()
        self._show("- machine: what it has", quiet=True)

    def judge(self, machine: MachineFacts) -> None:
        """Print what the check of a machine found. Raises PiError if it cannot be set up."""
        self._live.clear()
        found = findings(machine)
        screen.say(f"- machine: {machine_line(machine)}")
        for each in found.notes:
            screen.say(f"  note: {each.text}{f'; {each.hint}' if each.hint else ''}")
        for each in found.stops[1:]:
            screen.note(f"  {each.step}: {each.text}; {each.hint}")
        for first in found.stops:
            raise SetupError(first.step, f"{first.text} -- {first.hint}", [])
        on_idle.require_way(self._then, machine.provider, self._pod)

    def hear(self, event: Event) -> None:
        match event:
            case Log(text):
                self._announce()
                self._show("    " + text.strip())
            case Download(done, total, per_second):
                self._announce()
                self._show("    " + downloading(done, total or 0, per_second))
            case Step():
                self._live.clear()
                self._hear_step(event)
            case Reconnecting() | Reconnected():
                self._live.clear()
                reconnecting(event)

    def keep_durations(self) -> None:
        """Save how long each step took, for the next setup of this pod."""
        durations.keep(self._work, self._took)

    def _hear_step(self, event: Step) -> None:
        word, step, text = event.verb, event.step, event.text
        if word == "step":
            self._began = time.monotonic()
            self._step, self._purpose = step, f"- {step}: {text}"
            self._show(self._purpose, quiet=True)
        elif word == "note":
            self._announce()
            screen.say(f"  note: {text}")
        elif word in ("done", "skip"):
            took = time.monotonic() - self._began
            if word == "done":
                self._took[step] = took
            taken = f" ({screen.seconds(took)})" if word == "done" else ""
            screen.say(f"  {text}{taken}" if not self._purpose else f"- {step}: {text}{taken}")
            self._purpose = ""

    def _show(self, text: str, *, quiet: bool = False) -> None:
        began, before = self._began, self._before.get(self._step)
        last = f"; last time {screen.whole_seconds(before)}" if before else ""
        self._live.run(text, screen.clock_since(began, last), quiet=quiet)

    def _announce(self) -> None:
        self._live.clear()
        if self._purpose:
            screen.say(self._purpose)
            self._purpose = ""

    def quote(self, lines: list[str]) -> None:
        """Print the last lines of a failed step."""
        self._live.clear()
        for line in lines[-QUOTED:]:
            screen.note("    | " + line)

    def end(self) -> None:
        self._live.clear()
