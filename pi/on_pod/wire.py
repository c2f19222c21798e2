"""The pod's end of the stream: events out on stdout, answers in on stdin.

An event is one line, `MARK {"event": ..., ...}`, where MARK is a random word that pi chose for this call,
so that noise from a login shell is never taken for an answer. When the connection is lost the work goes
on: writes are dropped and `lost` is set; a call with a journal keeps its events there for `follow`. Only an
explicit `{"cancel": true}` from pi, or SIGUSR1 from the call that follows this one, sets `cancelled`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, Callable, Iterable, NoReturn, Optional

from pi.on_pod import redact
from pi.on_pod.journal import Journal
from pi.on_pod.pace import paced

HEARTBEAT_S = 5.0
"""pi takes silence for a lost connection after a few of these (`pi.calls.SILENCE_S`)."""


class PodError(Exception):
    """A failure that pi words for the user. `kind` is a stable word; `detail` travels as JSON."""

    def __init__(self, kind: str, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.detail = detail


class Cancelled(Exception):
    """The user pressed Ctrl+C; whoever catches it ends what it started."""


class Wire:
    def __init__(self, mark: str, journal: Optional[Journal] = None) -> None:
        self.cancelled = threading.Event()
        self.lost = threading.Event()
        self.secrets = redact.Secrets(redact.known())
        self.who = ""
        self._mark = mark
        self._journal = journal
        self._answers: queue.Queue[Optional[dict[str, Any]]] = queue.Queue()
        self._writing = threading.Lock()
        self._write("\n")
        signal.signal(signal.SIGUSR1, lambda *_: self.cancelled.set())
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def emit(self, event: str, **data: Any) -> None:
        """Tell pi of an event, the pod's secrets taken out. Text that comes in pieces needs a `redact.Redactor` too."""
        data = self.secrets.hide_all(dict(data, event=event))
        if self._journal:
            self._journal.add(data)
        self._write(self._mark + " " + json.dumps(data) + "\n")

    def progress(self, text: str) -> None:
        """Tell pi what the work waits for."""
        self.emit("progress", text=text)

    def hide(self, values: Iterable[str]) -> None:
        """Take these out of events as well, from now on."""
        self.secrets = redact.Secrets(self.secrets.values.union(values))

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """The next line that pi sends. Raises PodError when none comes in time or pi is gone."""
        try:
            reply = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            reply = None
        if reply is None:
            raise PodError("lost", "pi did not answer")
        return reply

    def check_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise Cancelled

    def _write(self, text: str) -> None:
        with self._writing:
            if self.lost.is_set():
                return
            try:
                data = text.encode()
                while data:
                    data = data[os.write(1, data) :]
            except OSError:
                self.lost.set()

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if message.get("cancel"):
                    self.cancelled.set()
                self._answers.put(message)
        self.lost.set()
        self._answers.put(None)

    def _beat(self) -> NoReturn:
        while True:
            time.sleep(paced(HEARTBEAT_S))
            self._write(self._mark + ' {"event": "alive"}\n')


def run(
    verb: Callable[[Wire, dict[str, Any]], Any], mark: str, request: dict[str, Any], journal: Optional[str]
) -> None:
    """Run one verb to its end: `done` with its result, or `failed` with a kind, a message and details.

    `journal` names the call where it may be taken up again after a lost connection.
    """
    with contextlib.suppress(OSError):
        os.setsid()
    os.umask(0o077)
    wire = Wire(mark, Journal(journal) if journal else None)
    wire.who = str(request.get("who", ""))
    try:
        wire.emit("done", result=verb(wire, request))
    except Cancelled:
        wire.emit("cancelled")
    except PodError as error:
        wire.emit("failed", kind=error.kind, message=str(error), detail=error.detail)
    except Exception as error:
        wire.emit("failed", **_unforeseen(error))
    os._exit(0)  # threads still wait on stdin; a normal exit would wait for their locks


def _unforeseen(error: Exception) -> dict[str, Any]:
    """What pi is told of an error that no verb words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return {"kind": "disk_full", "message": "the pod's disk is full", "detail": {}}
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    line = "%s:%d" % (place.tb_frame.f_code.co_filename, place.tb_lineno) if place else "?"
    return {"kind": "unexpected", "message": "%s: %s" % (type(error).__name__, error), "detail": {"at": line}}
