"""The pod's end of the stream: events out on stdout, answers in on stdin.

An event is one line, `MARK {"event": ..., ...}`; after that of a piece of a log, its bytes follow. pi chooses a random
MARK for each call, so that it can ignore the output of a login shell. When the connection is lost, `lost` is set and
the work continues without output; a journal keeps the events for `follow`. Only `{"cancel": true}` from pi, or SIGUSR1
from a call that follows this one, sets `cancelled`.
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
from typing import TYPE_CHECKING, Any, Callable, Iterable, NoReturn, Optional

from pi.on_pod import container, journal, private, redact
from pi.on_pod.pace import paced

if TYPE_CHECKING:
    from pi.on_pod.events import Event, FailedEvent, FailureKind
    from pi.on_pod.shapes import Call

MAX_WAITING = 4 * 1024 * 1024
"""Bytes that wait for a slow connection of a call with a journal; more mean that it is lost."""

FLUSH_S = 10
"""How long the end of a call waits for a slow connection."""

HEARTBEAT_S = 5.0
"""After a few missing heartbeats, pi reconnects (`pi.calls.call.SILENCE_S`)."""


ANSWER_POLL_S = 0.1


class PodError(Exception):
    """A failure that pi explains to the user. Each `kind` has its `detail` (see `pi.on_pod.events`)."""

    def __init__(self, kind: FailureKind, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.detail = detail


class Cancelled(Exception):
    """The user pressed Ctrl+C. A function that catches this ends what it started."""


class Wire:
    """Sends events to pi and receives its answers."""

    def __init__(self, mark: str, kept: Optional[journal.Journal] = None) -> None:
        self.cancelled = threading.Event()
        self.lost = threading.Event()
        self.secrets = redact.Secrets(redact.stored())
        self.who = ""
        self._mark = mark
        self._journal = kept
        self._answers: queue.Queue[Optional[dict[str, Any]]] = queue.Queue()
        self._writing = threading.Lock()
        self._waiting: queue.Queue[bytes] = queue.Queue()
        self._waiting_bytes = 0
        threading.Thread(target=self._write_waiting, daemon=True).start()
        self._write(b"\n")
        signal.signal(signal.SIGUSR1, lambda *_: self.cancelled.set())
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def emit(self, event: Event) -> None:
        """Send pi an event without the pod's secrets; `log` sends a piece of a log."""
        data = self.secrets.hide_all(event)
        if self._journal:
            self._journal.add(data)
        self._write(self._line(json.dumps(data)))

    def log(self, text: str) -> None:
        """Send pi a piece of a log, in which a `redact.Redactor` has hidden the pod's secrets.

        It goes as it is: JSON would take more time than ssh.
        """
        if self._journal:
            self._journal.add({"event": "log", "text": text})
        data = text.encode("utf-8", "replace")
        self._write(b"%s%s\n" % (self._line('{"event": "log", "bytes": %d}' % len(data)), data))

    def _line(self, event: str) -> bytes:
        return ("%s %s\n" % (self._mark, event)).encode()

    def progress(self, text: str) -> None:
        """Tell pi what the work does or waits for."""
        self.emit({"event": "progress", "text": text})

    def hide(self, values: Iterable[str]) -> None:
        """Hide these values in events too, from now on."""
        self.secrets = redact.Secrets(self.secrets.values.union(values))

    def answer(self, timeout_s: float) -> Any:
        """Return the next line from pi. Raises PodError if none comes in time or the connection is lost."""
        reply = self.next_answer(timeout_s)
        if reply is None:
            raise PodError("lost", "pi did not answer")
        return reply

    def ask(self, event: Event, timeout_s: float) -> Any:
        """Send an event and return pi's answer to it, or None if none comes in time.

        Survives a lost connection: a call that follows this one passes the answer on in the journal.
        Raises Cancelled.
        """
        if self._journal:
            self._journal.take_answer()
        self.emit(event)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            reply = self.next_answer(ANSWER_POLL_S) or (self._journal.take_answer() if self._journal else None)
            self.check_cancelled()
            if reply is not None:
                return reply
        return None

    def next_answer(self, timeout_s: float) -> Optional[dict[str, Any]]:
        """Return the next line from pi, or None if none comes in time or the connection is lost."""
        try:
            return self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def check_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise Cancelled

    def _write(self, data: bytes) -> None:
        if self.lost.is_set():
            return
        if self._journal is None:
            with self._writing:
                self._write_now(data)
            return
        with self._writing:
            self._waiting_bytes += len(data)
            if self._waiting_bytes > MAX_WAITING:
                self.lost.set()
        self._waiting.put(data)

    def _write_waiting(self) -> NoReturn:
        """Write for a call with a journal: a connection that is dead must not stop the work."""
        while True:
            data = self._waiting.get()
            self._write_now(data)
            with self._writing:
                self._waiting_bytes -= len(data)
            self._waiting.task_done()

    def _write_now(self, data: bytes) -> None:
        try:
            while data and not self.lost.is_set():
                data = data[os.write(1, data) :]
        except OSError:
            self.lost.set()

    def flush(self, patience_s: float) -> None:
        """Wait until everything is written, the connection is lost, or the time is over."""
        deadline = time.monotonic() + patience_s
        while self._waiting.unfinished_tasks and not self.lost.is_set() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if message.get("cancel"):
                    self.cancelled.set()
                    self._write(self._line('{"event": "cancelling"}'))
                self._answers.put(message)
        self.lost.set()
        self._answers.put(None)
        _let_go()

    def _beat(self) -> NoReturn:
        while True:
            time.sleep(paced(HEARTBEAT_S))
            self._write(self._line('{"event": "alive"}'))


def _let_go() -> None:
    """End the shell that waits for this program, so that ssh closes the connection; the work continues."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    if sys.argv[1:] == [str(os.getppid())]:
        os.kill(os.getppid(), signal.SIGTERM)


def run(verb: Callable[[Wire, Any], Any], call: Call) -> None:
    """Run one verb to its end, and send `done`, `failed` or `cancelled`."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # a shell's background programs ignore them, and so would vLLM
    with contextlib.suppress(OSError):
        os.setsid()
    os.umask(0o077)
    container.adopt()
    objection = private.objection(is_setup=call["module"] == "setup")
    if call["module"] in private.RUNS_VENVS:
        objection = objection or private.folder_objection() or private.venv_objection()
    wire = Wire(call["mark"], None if objection else _journal(call["journal"]))
    wire.who = call["who"]
    try:
        if objection:
            raise PodError("not_private", objection)
        wire.emit({"event": "done", "result": verb(wire, call["request"])})
    except Cancelled:
        wire.emit({"event": "cancelled"})
    except PodError as error:
        wire.emit(_failed(error.kind, str(error), error.detail))
    except Exception as error:
        wire.emit(_unforeseen(error))
    wire.flush(paced(FLUSH_S))
    os._exit(0)  # a normal exit would wait for the locks of threads that read stdin


def _journal(name: Optional[str]) -> Optional[journal.Journal]:
    """Return the journal of that name, or None if the home cannot be written: the call itself says why."""
    try:
        return journal.Journal(name) if name else None
    except OSError:
        return None


def _failed(kind: FailureKind, message: str, detail: dict[str, Any]) -> FailedEvent:
    return {"event": "failed", "kind": kind, "message": message, "detail": detail}


def _unforeseen(error: Exception) -> FailedEvent:
    """Describe an error that no verb expects."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _failed("disk_full", "the pod's disk is full", {})
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    line = "%s:%d" % (place.tb_frame.f_code.co_filename, place.tb_lineno) if place else "?"
    return _failed("unexpected", "%s: %s" % (type(error).__name__, error), {"at": line})
