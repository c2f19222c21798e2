"""The network between pods: private addresses, the measurement between two pods, and the firewall of a pod.

Each pod has a network namespace, on an outer and on a private network (`tests/rig/network.py`).
"""

from __future__ import annotations

import json
import subprocess
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
    for pod in pods:
        pod.up()
    yield pods
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


def test_a_closed_pod_is_measured_too(
    pair: list[NetworkPod], connect: Connect, firewall: Callable[[str], object]
) -> None:
    mine, theirs = (pod.space.private for pod in pair)
    (pair[0].home / ".pi").symlink_to(pair[0].folder.parent / ".pi")
    firewall(f'close("big", ["10.0.0.9"], {GUARDED})')
    rules = pair[0].space.run("nft", "list", "ruleset")
    found = network.passage(connect(pair[1]), theirs, connect(pair[0]), mine, 0.1)
    assert found.problem is None and found.gbit_per_s > 0
    assert pair[0].space.run("nft", "list", "ruleset") == rules


@pytest.mark.slow
def test_the_figures_are_those_of_a_slow_line(pair: list[NetworkPod], connect: Connect) -> None:
    one, two = map(connect, pair)
    pair[1].space.slow_down("200mbit")
    try:
        line = network.measure(one, pair[0].space.private, two, pair[1].space.private)
    finally:
        pair[1].space.at_full_speed()
    assert 0.14 < line.there.gbit_per_s < 0.21 and 0.14 < line.back.gbit_per_s < 0.21


@pytest.mark.slow
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

    asked = {"address": pair[0].space.private, "peer": pair[1].space.private, "word": "right", "seconds": 0.1}
    answer = call(connect(pair[0]), "network", "listen", asked, ListenAnswer, hear)
    assert found == ["0\n"] and answer["problem"] == f"no pod connected to {pair[0].space.private} within 10 s"


LISTEN = """
import socket, sys, time
for word in sys.argv[1:]:
    address, _, port = word.rpartition(":")
    globals()["s" + port] = socket.create_server((address, int(port)))
print("ready", flush=True)
time.sleep(600)
"""

SERVICE, LOCAL, GUARDED, STORE, RANK, OTHER = 7777, 7778, 8001, 29501, 45555, 8002


@pytest.fixture
def listen(spaces: list[Namespace]) -> Iterator[Callable[..., None]]:
    """Open ports of the first machine, such as "0.0.0.0:7777"."""
    running = []

    def begin(*places: str) -> None:
        words = [*spaces[0].enter, sys.executable, "-S", "-c", LISTEN, *places]
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE))
        stdout = running[-1].stdout
        assert stdout and stdout.readline() == b"ready\n"

    yield begin
    for each in running:
        each.kill()
        each.communicate()


@pytest.fixture
def firewall(tmp_path: Path, spaces: list[Namespace]) -> Iterator[Callable[[str], object]]:
    """Call a function of the pod's firewall on the first machine, such as `close("m", [], 8001)`."""
    (tmp_path / ".pi" / "run").mkdir(parents=True)
    for name in ("big", "other", "small"):
        (tmp_path / ".pi" / "run" / name).mkdir()

    def asked(words: str) -> object:
        code = f"import json; from pi.on_pod import firewall; print(json.dumps(firewall.{words}))"
        return json.loads(spaces[0].run("env", f"HOME={tmp_path}", f"PYTHONPATH={ROOT}", sys.executable, "-c", code))

    yield asked
    spaces[0].run("nft", "flush", "ruleset")


def test_other_machines_reach_no_port_of_a_rank(
    spaces: list[Namespace], listen: Callable[..., None], firewall: Callable[[str], object]
) -> None:
    here, member, other = spaces
    everywhere = [SERVICE, LOCAL, GUARDED, STORE, RANK, OTHER]
    listen(f"0.0.0.0:{SERVICE}", f"127.0.0.1:{LOCAL}")
    assert firewall(f'close("big", ["{member.private}"], {GUARDED})') is None
    listen(f"0.0.0.0:{GUARDED}", f"0.0.0.0:{STORE}", f"{here.private}:{RANK}", f"0.0.0.0:{OTHER}")
    for address in (here.outer, here.private):
        assert other.scan(address, *everywhere) == ([SERVICE, GUARDED], 4)
    assert member.scan(here.private, *everywhere) == ([SERVICE, GUARDED, OTHER, STORE, RANK], 0)
    assert member.scan(here.outer, *everywhere) == ([SERVICE, GUARDED], 4), "it comes from its outer address"
    assert here.scan(here.outer, *everywhere) == ([SERVICE, GUARDED, OTHER, STORE], 0)
    assert firewall('is_closed("big")') is True
    firewall(f'admit("small", {OTHER})')
    assert other.scan(here.outer, *everywhere) == ([SERVICE, GUARDED, OTHER], 3)
    assert firewall('reopen("small")') is None and firewall('reopen("big")') is None
    assert here.run("nft", "list", "tables") == ""
    assert other.scan(here.outer, *everywhere) == ([SERVICE, GUARDED, OTHER, STORE], 0)


@pytest.mark.slow
def test_two_models_that_span_pods_share_the_rules(
    spaces: list[Namespace], listen: Callable[..., None], firewall: Callable[[str], object]
) -> None:
    here, one, two = spaces
    firewall(f'close("big", ["{one.private}"], {GUARDED})')
    listen(f"0.0.0.0:{RANK}")
    assert firewall(f'close("other", ["{two.private}"], {OTHER})') is None
    listen(f"0.0.0.0:{STORE}")
    for each in (one, two):
        assert each.scan(here.private, STORE, RANK) == ([STORE, RANK], 0)
        assert each.scan(here.outer, STORE, RANK) == ([], 2), "a rank's port is not open for being there before"
    assert firewall('is_closed("big")') and firewall('is_closed("other")')
    firewall('reopen("big")')
    assert one.scan(here.private, STORE, RANK) == ([], 2) and two.scan(here.private, STORE, RANK) == ([STORE, RANK], 0)


def test_rules_that_another_program_removed_do_not_count(
    spaces: list[Namespace], firewall: Callable[[str], object]
) -> None:
    firewall(f'close("big", ["{spaces[1].private}"], {GUARDED})')
    [table] = spaces[0].run("nft", "list", "tables").split()[2:]
    spaces[0].run("nft", "flush", "table", "inet", table)
    assert firewall('is_closed("big")') is False
    assert firewall(f'close("big", ["{spaces[1].private}"], {GUARDED})') is None
    assert firewall('is_closed("big")') is True


def test_a_container_that_may_not_change_its_firewall_is_named(
    tmp_path: Path, spaces: list[Namespace], firewall: Callable[[str], object]
) -> None:
    code = "from pi.on_pod import firewall; print(firewall.objection())"
    words = ("setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin", sys.executable, "-c", code)
    said = spaces[0].run("env", f"HOME={tmp_path}", f"PYTHONPATH={ROOT}", *words)
    assert said == "its container may not change the firewall (no CAP_NET_ADMIN)\n"
    assert firewall("objection()") is None and spaces[0].run("nft", "list", "tables") == ""


@pytest.mark.slow
def test_open_connections_survive_the_rules(
    spaces: list[Namespace], listen: Callable[..., None], firewall: Callable[[str], object]
) -> None:
    """The pod's first packet on a connection may come after the rules: a download must go on."""
    code = "import socket,sys; s=socket.create_server(('', 0)); print(s.getsockname()[1], flush=True)\n"
    code += "c, _ = s.accept(); sys.stdin.read(1); c.sendall(b'more'); print('sent', flush=True)"
    words = [*spaces[2].enter, sys.executable, "-S", "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        port = server.stdout.readline().strip()
        code = (
            "import socket,sys; c=socket.create_connection((sys.argv[1], int(sys.argv[2]))); print('on', flush=True)\n"
        )
        code += "print(c.recv(9).decode())"
        words = [*spaces[0].enter, sys.executable, "-S", "-c", code, spaces[2].outer, port]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout and client.stdout.readline() == "on\n"
            firewall(f'close("big", ["{spaces[1].private}"], {GUARDED})')
            server.stdin.write("x")
            server.stdin.close()
            assert client.stdout.readline() == "more\n"
