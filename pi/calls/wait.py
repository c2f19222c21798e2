"""`wait` on the pod: the deployment when it no longer starts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import ConnectionLost, Listener, call, reconnected
from pi.calls.status import Found, found_of
from pi.on_pod.wait_shapes import WaitAnswer, WaitRequest

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class Waited:
    """The deployment; None if the pod does not know it, with its last change and the end of its log."""

    found: Found | None
    last_change: str
    log: str


def wait_for(connection: Connection, name: str, timeout_s: int | None, listen: Listener) -> Waited:
    """Wait until a deployment no longer starts, or `timeout_s` are over; connect again after a lost connection.

    Raises UnreachableError if pi cannot connect again.
    """
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = None if timeout_s is None else max(0, round(deadline - time.monotonic()))
        request: WaitRequest = {"name": name, "timeout_s": left}
        try:
            answer = call(connection, "wait", "wait", request, WaitAnswer, listen)
        except ConnectionLost:
            reconnected(connection, listen, lambda: None)
            continue
        found = answer["deployment"]
        return Waited(found_of(found) if found else None, answer["last_change"], answer["log"])
