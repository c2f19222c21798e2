"""One call to a pod: how `pi.on_pod` gets there, the events that come back, and a failure in pi's words.

A call sends one constant command, then on stdin the program, the request and (for `start`) pi's plan. No
user's text and no secret is ever part of a command line. Long work keeps a journal on the pod: when the
connection is lost the work goes on, and pi connects again and follows it from where it was.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pi.calls.bootstrap import NO_BASH, NO_PYTHON, program, shell_command
from pi.calls.events import Event, Reader
from pi.calls.failures import error_of
from pi.errors import Interrupted, LeftRunning, PiError, RemoteError, UnreachableError
from pi.on_pod.pace import paced
from pi.pods.changes import who
from pi.redaction import redacted
from pi.ssh.link import GATEWAY, Link, Silence, Stream
from pi.text import one_line

SILENCE_S = 20
"""A pod sends a heartbeat each 5 s (`pi.on_pod.wire`); this much silence is a lost connection."""

RECONNECTS = 5
"""How often a lost connection is made again, after 1, 2, 3, ... s, before pi gives up."""

Listener = Callable[[Event], None]


class ConnectionLost(UnreachableError):
    """The stream of a call ended, or fell silent, before the call did."""


class Call:
    """One verb at work on a pod from `begin` on: its events, and the answers that it waits for.

    `journal` names the call on the pod, where it keeps a journal; `received` counts the events that arrived.
    """

    def __init__(
        self,
        link: Link,
        module: str,
        verb: str,
        request: dict[str, Any],
        preparation: str = "",
        journal: str | None = None,
    ) -> None:
        self.journal = journal
        self.received = 0
        self.has_begun = False
        self._is_prepared = bool(preparation)
        mark = secrets.token_hex(12)
        self._reader = Reader(mark)
        request = {**request, "who": who()}
        self._call = {"module": module, "verb": verb, "mark": mark, "request": request, "journal": journal}
        self._stream: Stream = link.run(shell_command(preparation))

    def begin(self) -> None:
        source = program().encode()
        with suppress(UnreachableError):  # a shell that ends at once has said why, which `events` tells
            self._stream.send(b"%d\n%s%s\n" % (len(source), source, json.dumps(self._call).encode()))

    def answer(self, message: dict[str, Any]) -> None:
        with suppress(UnreachableError):  # `events` tells that the connection is lost
            self._stream.send(json.dumps(message).encode() + b"\n")

    def events(self) -> Iterator[Event]:
        """Events up to and with the one that ends the call: `done`, `failed` or `cancelled`. Raises ConnectionLost."""
        while True:
            try:
                chunk = self._stream.receive(paced(SILENCE_S))
            except Silence:
                raise ConnectionLost(f"the pod has been silent for {SILENCE_S} s; the connection is lost") from None
            except (OSError, EOFError):
                chunk = b""
            if not chunk:
                raise self._cut_off()
            for event in self._reader.feed(chunk):
                self.has_begun = True
                if event.kind != "alive":
                    self.received += 1
                    yield event
                if event.kind in ("done", "failed", "cancelled"):
                    return

    def cancel(self) -> Event:
        """Have the pod end what this call started; the event that closed the call."""
        self.answer({"cancel": True})
        *_, last = self.events()
        return last

    def close(self) -> None:
        self._stream.close()

    def _cut_off(self) -> PiError:
        noise = redacted(self._reader.noise.decode("utf-8", "replace")).strip()
        lines = [line for line in noise.splitlines() if line.strip(". ")]
        if NO_BASH in noise:
            return RemoteError("the pod has no bash", "install bash there, then run the setup")
        if NO_PYTHON in noise and self._is_prepared:
            told = one_line(next((line for line in reversed(lines) if NO_PYTHON not in line), "no reason given"), 300)
            return RemoteError(
                f"the pod has no python3, and it could not be installed: {told}",
                "as root on the pod: apt-get install -y python3; then run the setup again",
            )
        if NO_PYTHON in noise:
            return RemoteError("the pod has no python3", 'set it up first: pi pods setup NAME "ssh ..."')
        if self.has_begun or (status := self._stream.exit_status()) is None:
            return ConnectionLost(f"the pod ended the call: {lines[-1][:300] if lines else 'the connection was lost'}")
        told = lines[-1][:300] if lines else f"its shell ended with status {status} and without a word"
        return UnreachableError(
            f"the pod ended the call: {told}", f"{GATEWAY}; if it is none, look for an exit in the account's ~/.bashrc"
        )


class _Follower(Call):
    """Another call's work, taken up over a new connection."""

    def __init__(self, link: Link, lost: Call) -> None:
        super().__init__(link, "follow", "follow", {"call": lost.journal, "after": lost.received})
        self.journal = lost.journal
        self.received = lost.received
        self.has_begun = True


def call(
    link: Link,
    module: str,
    verb: str,
    request: dict[str, Any],
    listen: Listener = lambda event: None,
    *,
    decide: Callable[[Event, Call], None] | None = None,
    preparation: str = "",
    outlives: bool = False,
    leave: Callable[[], bool] = lambda: False,
) -> Any:
    """Run one verb of `pi.on_pod` and return its result.

    `listen` is told every event, `decide` answers a `survey`. A failure is raised as the PiError that its kind
    calls for. Ctrl+C ends the work on the pod and raises Interrupted, or leaves it where `leave()` says so and
    raises LeftRunning.
    With `outlives`, a lost connection is made again and the work, which went on, is followed to its end.
    """
    running = Call(link, module, verb, request, preparation, secrets.token_hex(12) if outlives else None)
    is_lost = False
    try:
        running.begin()
        while True:
            try:
                return _followed(running, listen, decide)
            except ConnectionLost:
                if not (running.journal and running.has_begun):
                    raise
                is_lost = True
                running.close()
                running = _taken_up(link, running, listen)
                is_lost = False
    except KeyboardInterrupt as stop:
        if is_lost:
            message = "interrupted while the connection was lost; what runs on the pod goes on (pi list shows it)"
            raise LeftRunning(message, *stop.args) from None
        if leave():
            raise LeftRunning("interrupted; what runs on the pod goes on", *stop.args) from None
        last = running.cancel()
        if last.kind == "done":
            return last["result"]
        raise Interrupted("interrupted; what ran on the pod has been ended", *stop.args) from None
    finally:
        running.close()


def _followed(running: Call, listen: Listener, decide: Callable[[Event, Call], None] | None) -> Any:
    for event in running.events():
        if event.kind == "survey" and decide:
            decide(event, running)
        listen(event)
        if event.kind == "done":
            return event["result"]
        if event.kind == "failed":
            raise error_of(event)
    raise Interrupted("stopped; what ran on the pod has been ended")


def _taken_up(link: Link, lost: Call, listen: Listener) -> Call:
    """The same work over a new connection. Raises UnreachableError when none can be made."""
    for attempt in range(1, RECONNECTS + 1):
        listen(Event("reconnecting", {"attempt": attempt, "of": RECONNECTS}))
        time.sleep(paced(attempt))
        with suppress(UnreachableError):
            link.reopen()
            taken_up = _Follower(link, lost)
            taken_up.begin()
            listen(Event("reconnected", {}))
            return taken_up
    raise UnreachableError(
        f"the connection was lost and {RECONNECTS} tries to make it again failed; the work on the pod goes on",
        "when it is back: pi list shows what came of it",
    )
