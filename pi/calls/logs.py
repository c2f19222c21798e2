"""`logs` on the pod: a deployment's log, followed until its server ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import Listener, call
from pi.calls.events import Event, Log
from pi.errors import Interrupted, PiError, UnreachableError
from pi.on_pod.shapes import LogEnding, LogsAnswer, LogsRequest

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class LogEnd:
    """Why a followed log ended: its server exited or pi stopped it; None if only the log ended."""

    how: LogEnding | None
    exit_code: int | None


def follow_log(connection: Connection, name: str, listen: Listener, *, lines: int = 200, follow: bool = True) -> LogEnd:
    """Send a deployment's log to `listen` as Log events until its server ends, or without `follow` the log."""
    request: LogsRequest = {"name": name, "lines": lines, "follow": follow}
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
