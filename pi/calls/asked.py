"""When a pod was last asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.on_pod.shapes import AskedAnswer

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def last_asked_s_ago(connection: Connection) -> float | None:
    """Return the age of the last request to any model of a pod, whoever sent it; None if there was none."""
    return call(connection, "asked", "asked", {}, AskedAnswer)["s_ago"]
