"""`audit` on the pod: the last changes made to it."""

from __future__ import annotations

from pi.calls.call import call
from pi.on_pod.shapes import AuditRequest
from pi.pods.changes import row
from pi.ssh.link import Link


def recent_changes(link: Link, lines: int) -> list[list[str]]:
    """Return the last changes, the newest last: time, who, command, name and result of each."""
    request: AuditRequest = {"lines": lines}
    return [row(line) for line in call(link, "audit", "recent", request, list[str])]
