"""A call that is interrupted, and one that loses its connection."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pi.calls.call import RECONNECTS, call, reconnected
from pi.calls.events import Event, Reconnected, Reconnecting
from pi.errors import Interrupted, Unconfirmed, UnreachableError
from pi.on_pod.shapes import StatusAnswer
from pi.ssh.process import Silence


class InterruptedStream:
    """Ctrl+C comes while the program and the request are sent; the pod gets both, and answers the cancel."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        if len(self.sent) == 1:
            raise KeyboardInterrupt

    def receive(self, timeout_s: float) -> bytes:
        if not self.answers:
            raise Silence
        mark = self.sent[0].rpartition(b'"mark": "')[2].partition(b'"')[0]
        answer = self.answers.pop(0)
        return mark + b" " + answer + b"\n" if answer else b""

    def exit_status(self) -> int | None:
        return 1

    def close(self) -> None:
        self.sent.append(b"closed")


@pytest.mark.parametrize(
    ("answers", "id"),
    [
        pytest.param([b'{"event": "cancelled"}'], "interrupted", id="stopped"),
        pytest.param([b'{"event": "alive"}', b'{"event": "cancelled"}'], "interrupted", id="a heartbeat between"),
        pytest.param([b'{"event": "cancelling"}'], "interrupted-stopping", id="still stopping"),
        pytest.param([b'{"event": "alive"}'], "interrupted-unconfirmed", id="no word of the cancel"),
        pytest.param([], "interrupted-unconfirmed", id="a dead connection"),
        pytest.param([b""], "interrupted", id="the program ended before it arrived whole"),
    ],
)
def test_ctrl_c_cancels_and_reports_what_the_pod_says(answers: list[bytes], id: str) -> None:
    stream = InterruptedStream(*answers)

    class Connection:
        def stream(self, command: str) -> Any:
            return stream

    connection: Any = Connection()
    with pytest.raises(Interrupted) as stopped:
        call(connection, "status", "status", {}, StatusAnswer)
    assert stopped.value.id == id
    assert isinstance(stopped.value, Unconfirmed) is (id != "interrupted"), "an entry goes only on proof"
    assert stream.sent[1:] == [b'{"cancel": true}\n', b"closed"]


def losing(times: int) -> Any:
    """Return a connection that cannot be opened again so many times."""
    left = [None] * times

    def reopen() -> None:
        if left:
            left.pop()
            raise UnreachableError("connect-failed", "down")

    return SimpleNamespace(reopen=reopen)


def test_reconnected_tries_again_and_returns_what_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi.calls.call.time.sleep", lambda seconds: None)
    heard: list[Event] = []
    assert reconnected(losing(2), heard.append, lambda: "begun") == "begun"
    assert heard == [*(Reconnecting(attempt, RECONNECTS) for attempt in (1, 2, 3)), Reconnected()]


def test_reconnected_gives_up_after_the_last_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pi.calls.call.time.sleep", lambda seconds: None)
    with pytest.raises(UnreachableError) as error:
        reconnected(losing(RECONNECTS), lambda event: None, lambda: "begun")
    assert error.value.id == "reconnects-failed"
