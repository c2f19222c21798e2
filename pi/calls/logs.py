"""`logs` on the pod: a deployment's log, followed until its server ends."""

from __future__ import annotations

from dataclasses import dataclass

from pi.calls.call import Listener, call
from pi.errors import Interrupted, PiError, UnreachableError
from pi.ssh.link import Link


@dataclass(frozen=True)
class LogEnd:
    """Why following a log ended. `how` is exited, stopped (by pi), or None where only the log ended."""

    how: str | None
    exit_code: int | None


def follow_log(link: Link, name: str, listen: Listener, *, lines: int = 200, follow: bool = True) -> LogEnd:
    """Send a deployment's log to `listen` as `log` events, followed until its server ends."""
    result = call(link, "logs", "follow", {"name": name, "lines": lines, "follow": follow}, listen)
    return LogEnd(result["how"], result["exit"])


def last_log_line(link: Link, name: str) -> str | None:
    """The last line of a deployment's log, or None. Raises UnreachableError when the pod cannot be asked."""
    texts: list[str] = []
    try:
        follow_log(link, name, lambda event: texts.append(event.data.get("text", "")), lines=1, follow=False)
    except (UnreachableError, Interrupted):
        raise
    except PiError:
        return None
    return "".join(texts).strip() or None
