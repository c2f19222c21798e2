"""The network between pods: private addresses, the measurement between two pods, and the firewall of a pod.

Each pod has a network namespace, on an outer and on a private network (`tests/rig/network.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pi.calls import network
from pi.calls.call import call
from pi.calls.events import Listening
from pi.on_pod.network_shapes import ListenAnswer
from pi.ssh import openssh, target
from pi.ssh.connection import Connection
from tests.rig.network import Namespace, NetworkPod, networks

ROOT = Path(__file__).parents[2]

Connect = Callable[[NetworkPod], Connection]


@pytest.fixture(scope="module")
def spaces() -> Iterator[list[Namespace]]:
    """Three machines on both networks; the tests make the first two pods."""
    with networks() as made:
        found = [made.namespace() for _ in range(3)]
        yield found
        for space in found:
            space.down()


@pytest.fixture
def pair(tmp_path: Path, spaces: list[Namespace], pace: float) -> Iterator[list[NetworkPod]]:
    environment = {"PI_TEST_PACE": str(pace)}
    pods = [
        NetworkPod(tmp_path / each, each, space, environment=environment)
        for each, space in zip("ab", spaces, strict=False)
    ]
    yield [pod.up() for pod in pods]
    for pod in pods:
        pod.down()


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    made: list[Connection] = []

    def connection(pod: NetworkPod) -> Connection:
        made.append(Connection(openssh.way_to(target.parse(pod.ssh), tmp_path, "")))
        return made[-1]

    yield connection
    for each in made:
        each.close()


def test_pods_measure_their_line_both_ways(pair: list[NetworkPod], connect: Connect) -> None:
    one, two = map(connect, pair)
    for pod, connection in zip(pair, (one, two), strict=True):
        found = network.look(connection)
        assert [(each.address, each.interface) for each in found.addresses] == [(pod.space.private, "eth1")]
        assert found.firewall is None
    line = network.measure(one, pair[0].space.private, two, pair[1].space.private, 0.3)
    assert line.problem is None
    assert 0 < line.round_trip_ms < 50 and line.gbit_per_s > 0.2


@pytest.mark.slow
def test_the_figures_are_those_of_a_slow_line(pair: list[NetworkPod], connect: Connect) -> None:
    one, two = map(connect, pair)
    pair[1].space.slow_down("200mbit")
    try:
        line = network.measure(one, pair[0].space.private, two, pair[1].space.private)
    finally:
        pair[1].space.at_full_speed()
    assert 0.14 < line.there.gbit_per_s < 0.21 and 0.14 < line.back.gbit_per_s < 0.21


@pytest.mark.pace(0.2)
def test_a_pod_that_is_not_reached_is_named_with_the_cause(pair: list[NetworkPod], connect: Connect) -> None:
    one, two = map(connect, pair)
    mine, theirs = (pod.space.private for pod in pair)
    line = network.measure(one, mine, two, "10.99.99.99")
    assert line.problem == "cannot listen at 10.99.99.99: Cannot assign requested address"
    wrong = network.passage(one, "10.99.99.99", two, theirs, 0.1)
    assert wrong.problem == "10.99.99.99 is not an address of this pod"
    pair[1].space.cut_off()
    try:
        cut = str(network.passage(two, theirs, one, mine, 0.1).problem)
    finally:
        pair[1].space.connect_again()
    assert cut.startswith((f"no answer from {mine} to {theirs}", f"no connection from {theirs} to {mine}: No route"))


PROBE = """
import socket, sys
from hashlib import sha256
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as probe:
    probe.sendall(sha256(b"connect wrong").digest() + b"p")
    print(len(probe.recv(100)))
"""


@pytest.mark.pace(0.2)
def test_the_measured_port_gives_nothing_to_a_caller_without_the_word(
    pair: list[NetworkPod], spaces: list[Namespace], connect: Connect
) -> None:
    found = []

    def hear(event: object) -> None:
        if isinstance(event, Listening):
            words = (sys.executable, "-S", "-c", PROBE, pair[0].space.private, str(event.port))
            found.append(spaces[2].run(*words))

    asked = {"address": pair[0].space.private, "word": "right", "seconds": 0.1}
    answer = call(connect(pair[0]), "network", "listen", asked, ListenAnswer, hear)
    assert found == ["0\n"] and answer["problem"] == f"no pod connected to {pair[0].space.private} within 10 s"
