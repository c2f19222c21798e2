"""When a rank has lost a peer (`pi_link.py`): by its connections with it, and by whether its pod answers."""

from __future__ import annotations

import errno
import runpy
import socket
from pathlib import Path

import pytest

import pi

PROGRAM = Path(pi.__file__).parent / "setup" / "templates" / "pi_link.py"
LINK = runpy.run_path(str(PROGRAM))
Connection = LINK["Connection"]

OPEN, STALLED = [Connection("x", "1", 0)], [Connection("x", "1", 7)]
NONE: list[object] = []

# Each second: the connections with the peer, and whether its pod answers. Then: when it is lost, and how.
LOSSES = {
    "both stay": ([(OPEN, True)] * 60, None),
    "the peer connects late, but in time": ([*[(NONE, True)] * 25, *[(OPEN, True)] * 20], None),
    "the peer never connects": ([(NONE, True)] * 40, (30, "late")),
    "the connections are gone for a moment": ([(OPEN, True), *[(NONE, True)] * 4, *[(OPEN, True)] * 20], None),
    "the connections are gone": ([(OPEN, True), *[(NONE, True)] * 20], (5, "gone")),
    "the connections are gone, and the pod too": ([(OPEN, True), *[(NONE, False)] * 20], (5, "gone")),
    "the pod is silent for a moment": ([(OPEN, True), *[(OPEN, False)] * 14, *[(OPEN, True)] * 20], None),
    "the pod is silent, and the connections stay": ([(OPEN, True), *[(OPEN, False)] * 30], (15, "silent")),
    "the pod never answers, but acknowledges": ([(OPEN, False)] * 60, None),
    "the pod never answers, and acknowledges nothing": ([*[(OPEN, False)] * 20, (STALLED, False)], (20, "silent")),
    "the pod answers while a connection stalls": ([(OPEN, True), *[(STALLED, True)] * 30], None),
    "the pod is silent before its peer connects": ([(NONE, True), *[(NONE, False)] * 25, *[(OPEN, True)] * 9], None),
}


@pytest.mark.parametrize(("seconds", "expected"), LOSSES.values(), ids=LOSSES)
def test_a_peer_is_lost_if(seconds: list[tuple[list[object], bool]], expected: tuple[int, str] | None) -> None:
    now, found = [0.0], None
    peer = LINK["Peer"]("b", "10.0.0.7", 30, 1, lambda: now[0])
    for second, (connections, answers) in enumerate(seconds):
        now[0] = float(second)
        peer.see(connections, answers)
        if loss := peer.loss(not peer.has_connected):
            found = found or (second, loss.what)
            assert loss.text.startswith("pod b (10.0.0.7) ")
    assert found == expected


def test_a_rank_need_not_connect_with_each_peer() -> None:
    now = [0.0]
    peer = LINK["Peer"]("b", "10.0.0.7", 30, 1, lambda: now[0])
    for now[0] in range(100):
        peer.see([], True)
        assert peer.loss(False) is None


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

TCP = HEAD + (
    "   0: 0B4D0A0A:AFC8 0C4D0A0A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 101 1 0 20 4 30 10 -1\n"
    "   1: 0B4D0A0A:AFC9 0C4D0A0A:9C41 01 00000100:00000000 01:00000100 00000009     0        0 102 1 0 20 4 30 10 -1\n"
    "   2: 0B4D0A0A:AFCA 0C4D0A0A:9C42 08 00000000:00000000 00:00000000 00000000     0        0 103 1 0 20 4 30 10 -1\n"
    "   3: 0B4D0A0A:AFCB 0D4D0A0A:9C43 01 00000000:00000000 00:00000000 00000000     0        0 104 1 0 20 4 30 10 -1\n"
    "   4: 0B4D0A0A:AFCC 0C4D0A0A:9C44 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1\n"
)
"""Connections with 10.10.77.12, one stalled and one that the peer closed; one with another; one not accepted yet."""

TCP6 = HEAD.replace("local_address", "local_address" + " " * 24) + (
    "   0: 0000000000000000FFFF00000B4D0A0A:7339 0000000000000000FFFF00000C4D0A0A:9C45 01 00000000:00000000 "
    "00:00000000 00000000     0        0 201 1 0 20 4 30 10 -1\n"
)


def test_connections_are_found_by_the_peers_address() -> None:
    peers = LINK["printed"]("10.10.77.12")
    found = [*LINK["established"](TCP, peers), *LINK["established"](TCP6, peers)]
    assert [(each.inode, each.retransmits) for each in found] == [("101", 0), ("102", 9), ("201", 0)]


def test_an_address_of_ipv6_is_found_as_the_kernel_prints_it() -> None:
    assert LINK["printed"]("fd00::7") == {"000000FD000000000000000007000000"}


def test_a_pod_without_a_route_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own interface may be down: the kernel refuses at once, and the socket has no error left."""
    assert LINK["answering"]("127.0.0.1", ["127.0.0.1"]) == {"127.0.0.1"}
    assert LINK["answering"]("127.0.0.1", ["240.0.0.1"]) == set()
    original = socket.socket.connect_ex

    def connect_ex(self: socket.socket, address: tuple[str, int]) -> int:
        return errno.ENETUNREACH if address[0] == "192.0.2.1" else original(self, address)

    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    assert LINK["answering"]("127.0.0.1", ["192.0.2.1", "127.0.0.1"]) == {"127.0.0.1"}
