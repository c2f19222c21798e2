"""A call that is interrupted on its way out."""

from __future__ import annotations

import pytest

from pi.calls.call import call
from pi.errors import Interrupted
from pi.on_pod.shapes import StatusAnswer
from pi.ssh.connection import LocalLink


class InterruptedStream:
    """Ctrl+C comes while the program and the request are sent, all of which the pod gets all the same."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        if len(self.sent) == 1:
            raise KeyboardInterrupt

    def receive(self, timeout_s: float) -> bytes:
        mark = self.sent[0].rpartition(b'"mark": "')[2].partition(b'"')[0]
        return mark + b' {"event": "cancelled"}\n'

    def exit_status(self) -> int | None:
        return None

    def close(self) -> None:
        self.sent.append(b"closed")


class CutStream(InterruptedStream):
    """Ctrl+C comes before anything is sent, so the pod's Python takes the cancel for its program and ends."""

    def receive(self, timeout_s: float) -> bytes:
        return b""

    def exit_status(self) -> int | None:
        return 1


class InterruptedLink(LocalLink):
    def __init__(self, stream: InterruptedStream) -> None:
        self.stream = stream

    def run(self, command: str) -> InterruptedStream:
        return self.stream


def test_ctrl_c_while_the_request_goes_out_cancels_what_it_began() -> None:
    stream = InterruptedStream()
    with pytest.raises(Interrupted, match="pi stopped the work"):
        call(InterruptedLink(stream), "status", "status", {}, StatusAnswer)
    assert stream.sent[1:] == [b'{"cancel": true}\n', b"closed"]


def test_ctrl_c_before_the_program_has_arrived_is_an_interrupt() -> None:
    stream = CutStream()
    with pytest.raises(Interrupted, match="pi stopped the work"):
        call(InterruptedLink(stream), "status", "status", {}, StatusAnswer)
    assert stream.sent[-1] == b"closed"
