"""`pi logs`: follow a model's log."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.calls.events import Event, Log, Progress
from pi.calls.logs import follow_log
from pi.errors import Interrupted, RemoteError
from pi.fabric_tasks.verb import verb
from pi.pods.types import check_name
from pi.steps import where
from pi.steps.request import POD


@verb(
    "name",
    "NAME [--pod P] [--lines N] [--no-follow] [--raw]",
    details={
        "lines": "how many of the last lines to begin with",
        "no_follow": "print them and end",
        "raw": "with every escape sequence that the log holds, safe for a terminal or not",
        **POD,
    },
)
def logs(
    c: Any, name: str, pod: str | None = None, lines: int = 200, no_follow: bool = False, raw: bool = False
) -> None:
    """Follow a model's log; Ctrl+C ends the following, not the model."""
    check_name(name, "model")
    output = screen.Output(raw=raw)

    def hear(event: Event) -> None:
        match event:
            case Log(text):
                output.write(text)
            case Progress(text):
                screen.note(text)

    with where.targeted(c, pod) as (_, link):
        try:
            end = follow_log(link, name, hear, lines=lines, follow=not no_follow)
        except Interrupted:
            return
        finally:
            output.end()
    if end.how == "exited":
        status = "no exit status" if end.exit_code is None else f"status {end.exit_code}"
        raise RemoteError(f"{name} exited with {status}", "pi list tells why")
    if end.how == "stopped":
        screen.note(f"{name} was stopped")
