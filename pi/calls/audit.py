"""`audit` on the pod: the last changes made to it."""

from __future__ import annotations

from pi.calls.call import call
from pi.pods.changes import row
from pi.ssh.link import Link


def recent_changes(link: Link, lines: int) -> list[list[str]]:
    """The last changes made to the pod, the newest last: time, who, command, name and result of each."""
    return [row(line) for line in call(link, "audit", "recent", {"lines": lines})]
