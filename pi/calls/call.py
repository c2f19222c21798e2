"""One call to a pod: it sends `pi.on_pod`, reads the events that come back, and raises failures as pi's errors.

A call sends one constant command; the program, the request and (for `start`) pi's plan follow on stdin. No command
line contains the user's text or a secret. Long work keeps a journal on the pod: when the connection is lost, the work
continues, and pi connects again and follows it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pi.calls.bootstrap import INSTALL_PYTHON, NO_BASH, NO_PYTHON, RUNS_PYTHON, program, shell_command
from pi.calls.events import (
    Alive,
    Cancelled,
    Cancelling,
    Done,
    Ending,
    Event,
    Failed,
    Progress,
    Question,
    Reader,
    Reconnected,
    Reconnecting,
)
from pi.calls.failures import error_of
from pi.calls.validation import checked
from pi.errors import (
    Interrupted,
    LeftRunning,
    PiError,
    RemoteError,
    Unconfirmed,
    UnprovenError,
    UnreachableError,
    signal_of,
)
from pi.on_pod import shapes
from pi.on_pod.pace import paced
from pi.pods.changes import who
from pi.redaction import redacted
from pi.ssh.process import FAILED, Silence, Stream
from pi.text import one_line

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

SILENCE_S = 20
"""A pod sends a heartbeat each 5 s (`pi.on_pod.wire`); this much silence is a lost connection."""

BEGIN_S = SILENCE_S + 5
"""How long the pod's Python may take to begin. If the connection is lost, ssh notices it in this time."""

STOP_PATIENCE_S = 2
"""How long pi waits for the pod's word after Ctrl+C."""

RECONNECTS = 5
"""How often pi reconnects after a lost connection, with pauses of 1, 2, 3, ... s."""

Listener = Callable[[Event], None]


def progress_to(show: Callable[[str], object]) -> Listener:
    """Return a listener that shows what the pod waits for, and nothing else."""

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            show(event.text)

    return listen


Answer = TypeVar("Answer")

Begun = TypeVar("Begun")


class ConnectionLost(UnreachableError):
    """The stream of a call ended, or fell silent, before the call did."""


class Call:
    """One verb that runs on a pod: its events, and the answers that it waits for.

    `journal` names the call's journal on the pod, if it keeps one; `received` counts the events that arrived.
    `retry` is pi's answer to a failed try or to a check, which it repeats after a lost connection.
    """

    def __init__(
        self,
        connection: Connection,
        module: str,
        verb: str,
        request: Mapping[str, object],
        preparation: str = "",
        journal: str | None = None,
    ) -> None:
        self.journal = journal
        self.received = 0
        self.retry: Mapping[str, object] | None = None
        self.has_begun = False
        self._is_prepared = preparation == INSTALL_PYTHON
        mark = secrets.token_hex(12)
        self._reader = Reader(mark)
        self._call: shapes.Call = {
            "module": module,
            "verb": verb,
            "mark": mark,
            "who": who(),
            "request": request,
            "journal": journal,
        }
        self._stream: Stream = connection.stream(shell_command(preparation))

    def begin(self) -> None:
        source = program(self._call["module"])
        with suppress(UnreachableError):  # `events` reports why a shell ended at once
            self._stream.send(b"%d\n%s%s\n" % (len(source), source, json.dumps(self._call).encode()))

    def answer(self, message: Mapping[str, object]) -> None:
        with suppress(UnreachableError):  # `events` reports that the connection is lost
            self._stream.send(json.dumps(message).encode() + b"\n")

    def answer_retry(self, retry: Mapping[str, object]) -> None:
        """Send an answer that a lost connection must not lose."""
        self.retry = retry
        self.answer(retry)

    def events(self) -> Iterator[Event]:
        """Yield events up to and with the one that ends the call. Raises ConnectionLost."""
        while True:
            try:
                chunk = self._stream.receive(paced(SILENCE_S if self.has_begun else BEGIN_S))
            except Silence:
                raise self._silent() from None
            except (OSError, EOFError):
                chunk = b""
            if not chunk:
                raise self._cut_off()
            for event in self._reader.feed(chunk):
                self.has_begun = True
                if not isinstance(event, (Alive, Cancelling)):
                    self.received += 1
                    yield event
                if isinstance(event, Ending):
                    return

    def cancel(self) -> Event | None:
        """Make the pod stop the work of this call, and wait shortly for its word.

        Returns the event that ended the call, `Cancelling` if the pod is still stopping, or None without a word.
        """
        last: Event | None = None
        deadline = time.monotonic() + STOP_PATIENCE_S
        with suppress(PiError, Silence):
            self._stream.send(b'{"cancel": true}\n')
            while not isinstance(last, Ending):
                chunk = self._stream.receive(max(0.0, deadline - time.monotonic()))
                for event in self._reader.feed(chunk):
                    last = event if isinstance(event, (Ending, Cancelling)) else last
                if not chunk:
                    return last if self._stream.exit_status() is None else Cancelled()
        return last

    def close(self) -> None:
        self._stream.close()

    def _silent(self) -> PiError:
        """Return why nothing arrived: a Python of the pod that does not begin, or a lost connection."""
        if self.has_begun or RUNS_PYTHON not in self._noise():
            return ConnectionLost("pod-silent", f"lost the connection: the pod sent nothing for {SILENCE_S} s")
        python = one_line(self._noise().rpartition(RUNS_PYTHON)[2].partition("\n")[0], 300)
        return RemoteError(
            "python-silent",
            f"{python} on the pod did not run pi's program within {BEGIN_S} s",
            f"try it there: {python} -V; if ~/venv hangs, move it away and run the setup again",
        )

    def _noise(self) -> str:
        return redacted(self._reader.noise.decode("utf-8", "replace")).strip()

    def _cut_off(self) -> PiError:
        noise = self._noise()
        lines = [line for line in noise.splitlines() if line.strip(". ") and not line.startswith(RUNS_PYTHON)]
        if NO_BASH in noise:
            return RemoteError("no-bash", "the pod has no bash", "install bash there, then run the setup")
        if NO_PYTHON in noise and self._is_prepared:
            reason = one_line(next((line for line in reversed(lines) if NO_PYTHON not in line), "no reason given"), 300)
            return RemoteError(
                "no-python-installed",
                f"the pod has no python3, and installing it failed: {reason}",
                "as root on the pod: apt-get install -y python3; then run the setup again",
            )
        if NO_PYTHON in noise:
            return RemoteError(
                "no-python",
                "the pod has no python3, or one without its standard library",
                'setup installs it: pi pods setup NAME "ssh ..."',
            )
        status = self._stream.exit_status()
        if self.has_begun or status in (None, FAILED):
            return ConnectionLost(
                "connection-lost", f"lost the connection: {lines[-1][:300] if lines else 'the pod closed it'}"
            )
        reason = lines[-1][:300] if lines else f"it ended with status {status} and no output"
        return RemoteError(
            "no-python-runs",
            f"pi's program does not run on the pod: {reason}",
            "install a whole python3 there (apt-get install python3), then run the setup again",
        )


class _Follower(Call):
    """The work of another call, followed over a new connection."""

    def __init__(self, connection: Connection, lost: Call) -> None:
        request: shapes.FollowRequest = {"call": str(lost.journal), "after": lost.received}
        super().__init__(connection, "follow", "follow", request)
        self.journal = lost.journal
        self.received = lost.received
        self.retry = lost.retry
        self.has_begun = True

    def begin(self) -> None:
        super().begin()
        if self.retry:
            self.answer(self.retry)


def call(
    connection: Connection,
    module: str,
    verb: str,
    request: Mapping[str, object],
    shape: type[Answer],
    listen: Listener = lambda event: None,
    *,
    decide: Callable[[Question, Call], None] | None = None,
    preparation: str = "",
    outlives: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
) -> Answer:
    """Run one verb of `pi.on_pod` and return its result, which must have the given shape.

    `listen` gets every event, and `decide` answers questions. With `outlives`, the work survives a lost connection:
    pi connects again and follows it. Ctrl+C ends the work and raises Interrupted. It continues if `listen` raises.
    `meanwhile` is called while the pod begins to work.

    Raises:
        PiError: as the kind of the pod's failure says.
        WrongAnswerError: if an event or the result has another shape.
    """
    running = Call(connection, module, verb, request, preparation, secrets.token_hex(12) if outlives else None)
    is_lost = False
    try:
        running.begin()
        meanwhile()
        while True:
            try:
                return checked(shape, _followed(running, listen, decide), "result")
            except ConnectionLost:
                if not (running.journal and running.has_begun):
                    raise
                is_lost = True
                running.close()
                running = reconnected(connection, listen, partial(_follower, connection, running))
                is_lost = False
    except KeyboardInterrupt as stop:
        if is_lost:
            message = "interrupted while the connection was lost; the pod keeps working (pi list shows the result)"
            raise LeftRunning("left-running-offline", message, signal_of(stop)) from None
        last = running.cancel()
        if isinstance(last, Done):
            return checked(shape, last.result, "result")
        raise _interrupted(last, signal_of(stop)) from None
    finally:
        running.close()


def _interrupted(last: Event | None, signal: int) -> Interrupted:
    """Return what became of the work: stopped, still stopping, or unknown."""
    if isinstance(last, Ending):
        return Interrupted("interrupted", "interrupted; pi stopped the work on the pod", signal)
    if last is not None:
        text = "interrupted; the pod is still stopping the work, and finishes by itself"
        return Unconfirmed("interrupted-stopping", text, signal)
    text = "interrupted; the pod did not confirm that it stops (pi list shows what runs, pi stop NAME ends it)"
    return Unconfirmed("interrupted-unconfirmed", text, signal)


def _followed(running: Call, listen: Listener, decide: Callable[[Question, Call], None] | None) -> object:
    """Pass on events until the call ends. Returns its result."""
    for event in running.events():
        if isinstance(event, Question) and decide:
            decide(event, running)
        listen(event)
        if isinstance(event, Done):
            return event.result
        if isinstance(event, Failed):
            raise error_of(event)
    raise UnprovenError("cancelled", "the pod cancelled the work, and not for this pi", "pi list shows what runs")


def _follower(connection: Connection, lost: Call) -> Call:
    follower = _Follower(connection, lost)
    follower.begin()
    return follower


def reconnected(connection: Connection, listen: Listener, begin: Callable[[], Begun]) -> Begun:
    """Open a lost connection again and return what `begin` returns. Raises UnreachableError if pi cannot connect."""
    for attempt in range(1, RECONNECTS + 1):
        listen(Reconnecting(attempt, RECONNECTS))
        time.sleep(paced(attempt))
        with suppress(UnreachableError):
            connection.reopen()
            begun = begin()
            listen(Reconnected())
            return begun
    raise UnreachableError(
        "reconnects-failed",
        f"lost the connection, and {RECONNECTS} attempts to reconnect failed; the pod keeps working",
        "pi list shows the result once the pod is reachable",
    )
