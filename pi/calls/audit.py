"""`audit` on the pod: the last changes made to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.on_pod.shapes import AuditRequest
from pi.pods.changes import row

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def recent_changes(connection: Connection, lines: int) -> list[list[str]]:
    """Return the last changes, the newest last: time, who, command, name and result of each."""
    request: AuditRequest = {"lines": lines}
    return [row(line) for line in call(connection, "audit", "recent", request, list[str])]
