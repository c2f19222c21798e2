"""Show the progress of a download that nothing waits for."""

from __future__ import annotations

from pi import screen
from pi.calls.events import Download, Event, Note, Progress, Reconnected, Reconnecting
from pi.calls.pull import Pulled
from pi.steps.reports import downloading, reconnecting


class PullReport:
    """Shows the bytes, the speed and about how long the rest takes; of one of several pods, notes alone."""

    def __init__(self, expected_bytes: float, pod: str, shows_progress: bool = True) -> None:
        self._line = screen.Progress()
        self._expected_bytes = expected_bytes
        self._pod = pod
        self._shows_progress = shows_progress

    def hear(self, event: Event) -> None:
        if not self._shows_progress:
            if isinstance(event, Note):
                screen.note(f"  note: {self._pod}: {event.text}")
            return
        match event:
            case Download(done, total, per_second):
                text = downloading(done, total or self._expected_bytes, per_second)
                self._line.show(f"  {text}; Ctrl+C ends it, pi pull continues it")
            case Progress(text):
                self._line.show(f"  {text}")
            case Note(text):
                self._line.clear()
                screen.note(f"  note: {text}")
            case Reconnecting() | Reconnected():
                self._line.clear()
                reconnecting(event)

    def end(self) -> None:
        self._line.clear()


def describe(pulled: Pulled, pod: str, took_s: float) -> str:
    """Return the line for one repository, such as "a/b is on dc1 (31.2 GiB) after 4 min 2 s"."""
    size = screen.gigabytes(pulled.size_bytes)
    if pulled.was_there:
        return f"{pulled.model} was already on {pod} ({size})"
    return f"{pulled.model} is on {pod} ({size}) after {screen.seconds(took_s)}"
