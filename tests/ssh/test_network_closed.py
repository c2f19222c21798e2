"""`pi start --across` on pods with networks of their own: who reaches the ports of ranks, and a pod that is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.command import Pi
from tests.rig.network import Namespace, NetworkPod, networks
from tests.rig.pod import kill, until

pytestmark = [pytest.mark.pace(0.2), pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path: Path, venv: Path, pi: Pi) -> Iterator[tuple[NetworkPod, NetworkPod, Namespace]]:
    """Pods `a` and `b` with the model `m`, and a machine on their networks that is not a pod."""
    with networks() as made:
        spaces = [made.namespace() for _ in range(3)]
        environment = {"PI_TEST_PACE": "0.2"}
        pods = [NetworkPod(tmp_path / each, each, spaces[n], environment=environment) for n, each in enumerate("ab")]
        for pod in pods:
            pod.furnish(venv).up()
            pod.model()
        pi.knows(*pods)
        yield pods[0], pods[1], spaces[2]
        for pod in pods:
            pod.down()
            for pid in pod.processes():
                kill(pid)
        for space in spaces:
            space.down()


def test_others_reach_the_guarded_port_alone_until_a_cut_ends_both_pods(
    pi: Pi, cluster: tuple[NetworkPod, NetworkPod, Namespace]
) -> None:
    a, b, other = cluster
    a.fault("vllm", side_door=True)
    said = pi.ok("start", "~/models/m", "--name", "qwen", "--across", "a,b", "--slow-network", "-y")
    assert "only these pods reach the ports between them: pi sets the firewall of a and b" in said
    listening = {int(line.split()[3].rpartition(":")[2]) for line in a.space.run("ss", "-Htln").splitlines()}
    [door] = {port for port in listening - {22, 8001} if b.space.scan(a.space.private, port)[0]}
    for address in (a.space.outer, a.space.private):
        assert other.scan(address, *listening)[0] == [22, 8001]
    assert other.scan(b.space.outer, 22, 8001, door)[0] == [22]
    b.space.cut_off()
    assert until(lambda: not a.processes() and not b.processes(), 30), (a.processes(), b.processes())
    assert "has not answered for 15 s: it is cut off" in a.log_of("qwen").read_text()
    shown = pi.ok("list", "--all-pods")
    assert f"b ({b.space.private})" in shown, shown
    pi.ok("stop", "qwen")
    for pod in (a, b):
        assert pod.records() == [] and pod.space.run("nft", "list", "tables") == ""
