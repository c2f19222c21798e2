"""`follow` on the pod: take up a call whose connection was lost, from the event after the last one that arrived."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import Any, Optional

from pi.on_pod import journal, process
from pi.on_pod.wire import Cancelled, PodError, Wire

POLL_S = 0.1


class Reader:
    """Reads what a journal gained since the last look."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - open as long as the call is followed
        self._pending = b""

    def next(self) -> Optional[dict[str, Any]]:
        """The next whole line, or None while there is none."""
        self._pending += self._file.readline()
        if not self._pending.endswith(b"\n"):
            return None
        line, self._pending = self._pending, b""
        event: dict[str, Any] = json.loads(line)
        return event


def follow(wire: Wire, request: dict[str, Any]) -> Any:
    """Pass on what the call `call` says after its first `after` events; returns or raises what that call did.

    A cancel from pi is handed to the process that does the work.
    """
    try:
        reader = Reader(journal.path(request["call"]))
    except OSError:
        raise PodError("lost", "the connection was lost before the work began") from None
    owner = reader.next() or {"pid": 0, "started": 0, "boot_id": ""}
    for _ in range(request["after"]):
        reader.next()
    told = False
    while True:
        is_over = not process.is_alive(owner["pid"], owner["started"], owner["boot_id"])
        event = reader.next()
        if event:
            kind = event.pop("event")
            if kind in ("done", "failed", "cancelled"):
                return _ending(kind, event)
            wire.emit(kind, **event)
            continue
        if is_over:
            raise PodError("killed", "the work on the pod was killed before its end")
        if wire.lost.is_set():
            raise PodError("lost", "nobody follows any more")
        if wire.cancelled.is_set() and not told:
            told = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(owner["pid"], signal.SIGUSR1)
        time.sleep(POLL_S)


def _ending(kind: str, event: dict[str, Any]) -> Any:
    if kind == "failed":
        raise PodError(event["kind"], event["message"], **event["detail"])
    if kind == "cancelled":
        raise Cancelled
    return event["result"]
