"""The socket under a tunnel: a trickle of packets wakes its reader seldom, everything else comes at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pi.ssh import sockets
from pi.ssh.sockets import GatheringSocket


@pytest.fixture
def ends() -> Iterator[tuple[GatheringSocket, socket.socket]]:
    near, far = socket.socketpair()
    with GatheringSocket(near) as gathers, far:
        gathers.settimeout(5)
        gathers.gathers = True
        yield gathers, far


def trickle(far: socket.socket, count: int, apart_s: float) -> threading.Thread:
    """Sends `count` packets of 100 bytes, then closes."""

    def send() -> None:
        for _ in range(count):
            far.sendall(bytes(100))
            time.sleep(apart_s)
        far.close()

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def sizes(near: GatheringSocket) -> list[int]:
    """How much each read gave, up to the end."""
    found = []
    while data := near.recv(65536):
        found.append(len(data))
    return found


def test_a_trickle_is_read_in_fewer_pieces_and_whole(ends: tuple[GatheringSocket, socket.socket]) -> None:
    near, far = ends
    sender = trickle(far, 200, 0.005)
    found = sizes(near)
    sender.join()
    assert sum(found) == 20_000
    assert len(found) < 150
    assert max(found) >= 300


def test_without_leave_nothing_rests(
    ends: tuple[GatheringSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = ends
    near.gathers = False
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it rested"))
    far.sendall(bytes(100))
    monkeypatch.setattr(near, "_trickles_since", 0.0)
    assert near.recv(10) == bytes(10)


def test_an_answer_that_is_waited_for_comes_at_once(
    ends: tuple[GatheringSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions and answers over a slow line, for longer than it takes to be a trickle."""
    near, far = ends
    slept: list[float] = []
    threading.Thread(target=answer, args=(far, 0.05)).start()
    monkeypatch.setattr(time, "sleep", slept.append)
    began = time.monotonic()
    while time.monotonic() - began < 0.8:
        near.sendall(b"?")
        assert near.recv(10) == b"!"
    assert slept == []


def answer(far: socket.socket, after_s: float) -> None:
    timer = threading.Event()
    try:
        while far.recv(10):
            timer.wait(after_s)
            far.sendall(b"!")
    except OSError:
        return


def test_bulk_is_never_rested_over(ends: tuple[GatheringSocket, socket.socket]) -> None:
    near, far = ends
    near._trickles_since = 0.0

    def send() -> None:
        far.sendall(bytes(50_000_000))
        far.close()

    sender = threading.Thread(target=send)
    sender.start()
    began = time.monotonic()
    found = sizes(near)
    sender.join()
    assert sum(found) == 50_000_000
    assert time.monotonic() - began < len(found) * sockets.REST_S / 2


def test_a_read_that_times_out_says_so(ends: tuple[GatheringSocket, socket.socket]) -> None:
    near, _ = ends
    near.settimeout(0.01)
    with pytest.raises(TimeoutError):
        near.recv(10)
