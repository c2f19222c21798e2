"""`follow` on the pod: continue a call whose connection was lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import Any, Optional, cast

from pi.on_pod import journal, process, reading
from pi.on_pod.events import Event
from pi.on_pod.shapes import FollowRequest
from pi.on_pod.wire import Cancelled, PodError, Wire

POLL_S = 0.1


class Reader:
    """Reads a growing journal."""

    def __init__(self, path: str) -> None:
        self._file = os.fdopen(reading.opened(path), "rb")
        self._pending = b""

    def next(self) -> Optional[dict[str, Any]]:
        """Return the next event, or None if there is none yet. Ignores lines that a full disk cut off."""
        while True:
            self._pending += self._file.readline()
            if not self._pending.endswith(b"\n"):
                return None
            line, self._pending = self._pending, b""
            with contextlib.suppress(ValueError, RecursionError):
                event = json.loads(line)
                if isinstance(event, dict):
                    return event


def follow(wire: Wire, request: FollowRequest) -> Any:
    """Send on the events of a call after its first `after`. Returns or raises what that call did.

    Passes a cancel and answers from pi on to the process that does the work.
    """
    try:
        reader = Reader(journal.path(request["call"]))
    except (OSError, reading.ReadError):
        raise PodError("lost", "the connection was lost before the work began") from None
    owner = {"pid": 0, "started": 0, "boot_id": "", **(reader.next() or {})}
    for _ in range(request["after"]):
        reader.next()
    is_cancelled = False
    while True:
        is_over = not process.is_alive(owner["pid"], owner["started"], owner["boot_id"])
        event = reader.next()
        if event:
            if event.get("event") in ("done", "failed", "cancelled"):
                return _ending(event)
            if event["event"] == "log":
                wire.log(event["text"])
            else:
                wire.emit(cast(Event, event))
            continue
        if is_over:
            raise PodError("killed", "the work on the pod was killed before its end")
        if wire.lost.is_set():
            raise PodError("lost", "pi disconnected")
        answer = wire.next_answer(POLL_S)
        if answer and "cancel" not in answer:
            journal.pass_on(request["call"], answer)
        if wire.cancelled.is_set() and not is_cancelled:
            is_cancelled = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(owner["pid"], signal.SIGUSR1)


def _ending(event: dict[str, Any]) -> Any:
    """Return or raise what the followed call did."""
    if event["event"] == "failed":
        raise PodError(event["kind"], event["message"], **event["detail"])
    if event["event"] == "cancelled":
        raise Cancelled
    return event["result"]
