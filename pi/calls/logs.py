"""`logs` on the pod: a deployment's log, followed until its server ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import Listener, call
from pi.calls.events import Event, Log
from pi.errors import Interrupted, PiError, UnreachableError
from pi.on_pod.shapes import LogChoice, LogEnding, LogsAnswer, LogsRequest

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class LogEnd:
    """Why a followed log ended: its server exited or pi stopped it; None if only the log ended."""

    how: LogEnding | None
    exit_code: int | None


def follow_log(
    connection: Connection,
    name: str,
    listen: Listener,
    *,
    which: LogChoice = "log",
    lines: int = 200,
    since_s: int | None = None,
    grep: str | None = None,
    follow: bool = True,
) -> LogEnd:
    """Send a log to `listen` as Log events: its last lines, then, with `follow`, the new ones until its server ends.

    With `since_s`, all lines of the last seconds; with `grep`, the last lines that contain a text.
    """
    request: LogsRequest = {
        "name": name,
        "which": which,
        "lines": lines,
        "since_s": since_s,
        "grep": grep,
        "follow": follow and which == "log",
    }
    result = call(connection, "logs", "follow", request, LogsAnswer, listen)
    return LogEnd(result["how"], result["exit"])


def last_log_line(connection: Connection, name: str) -> str | None:
    """Return the last line of a deployment's log, or None. Raises UnreachableError."""
    texts: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Log):
            texts.append(event.text)

    try:
        follow_log(connection, name, listen, lines=1, follow=False)
    except (UnreachableError, Interrupted):
        raise
    except PiError:
        return None
    return "".join(texts).strip() or None
