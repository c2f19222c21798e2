"""Replicas on several pods: behind the first one's HAProxy over a private address, else spread by the door."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from tests.rig.command import KEY, Pi
from tests.rig.pod import Pod, kill, until
from tests.ssh.conftest import NewPod
from tests.ssh.test_door import open_door

ADDRESSES = ("--address", "a=127.0.0.1", "--address", "b=127.0.0.1")
"""Both pods are this machine."""

pytestmark = [pytest.mark.long, pytest.mark.pace(0.2)]


@pytest.fixture
def pods(pi: Pi, new_pod: NewPod) -> Iterator[tuple[Pod, Pod]]:
    both = new_pod("a"), new_pod("b")
    pi.knows(*both)
    for pod in both:
        pod.model()
        pod.fault("vllm", say=["it is ", pod.name, "."])
    yield both
    pi("door", "stop")


def start(pi: Pi, *words: str) -> str:
    return pi.ok("start", "~/models/m", "--name", "qwen", "--across", "a,b", *words)


def asked(port: int, session: int, key: str = KEY) -> tuple[int, str]:
    """Return the status of a request and the replica that answered."""
    done = requests.post(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json={"model": "qwen", "messages": [], "stream": True},
        headers={"Authorization": f"Bearer {key}", "X-Session-ID": str(session)},
        timeout=30,
    )
    return done.status_code, done.headers.get("x-replica", "")


def test_the_first_pods_address_serves_the_replicas_of_both(pi: Pi, pods: tuple[Pod, Pod]) -> None:
    a, b = pods
    dry = start(pi, "--replicas", "3", *ADDRESSES, "--dry-run")
    assert "all replicas fit; qwen.1: CPU, qwen.2: CPU" in dry and a.records() == b.records() == []
    started = start(pi, "--replicas", "3", *ADDRESSES)
    assert "b: 1 replica; a passes requests on to 127.0.0.1 (" in started
    assert "qwen has 3 replicas over a and b" in started and a.records() == ["qwen", "qwen.1", "qwen.2"]
    assert b.records() == ["qwen", "qwen.1"]
    port = pi.models("a")["qwen"]["port"]
    first = [asked(port, session) for session in range(60)]
    assert {status for status, _ in first} == {200}
    assert {replica for _, replica in first} == {"qwen.1", "qwen.2", "b/qwen.1"}
    assert [asked(port, session) for session in range(60)] == first, "each conversation stays"
    own = pi.models("b")["qwen"]["port"]
    assert asked(own, 1) == (200, "qwen.1") and asked(port, 1, "wrong")[0] == asked(own, 1, "wrong")[0] == 401
    added = pi.ok("key", "add", "ann", "--pod", "a").strip()
    assert {asked(port, session, added)[0] for session in range(9)} == {401}, "b does not know it"
    assert "  qwen: running; 2 of 2 replicas serve, and those on b" in pi.ok("list", "--pod", "a")

    kill(b.record("qwen.1")["pid"])
    assert until(lambda: "those on b are down" in pi.ok("list", "--pod", "a"), 10)
    assert {asked(port, session)[1] for session in range(30)} == {"qwen.1", "qwen.2"}
    assert "qwen has 4 replicas over a and b" in pi.ok("scale", "qwen", "4", "--pod", "a")
    assert b.records() == ["qwen", "qwen.1", "qwen.2"]
    assert {asked(port, session)[1] for session in range(60)} == {"qwen.1", "qwen.2", "b/qwen.1", "b/qwen.2"}
    kill(a.record("qwen")["pid"])  # its launcher starts it with the other pod behind it
    assert until(lambda: "and those on b" in pi.ok("list", "--pod", "a"), 20)

    pi.ok("restart", "qwen", "--pod", "a")
    port = pi.models("a")["qwen"]["port"]
    assert "b/qwen.1" in {asked(port, session)[1] for session in range(30)}
    assert pi("move", "qwen", "b", "--from", "a").id == "span-moves"
    stopped = pi("stop", "qwen", "--pod", "a")
    assert stopped.code == 0 and "pi stop qwen --pod b" in stopped.err
    pi.ok("stop", "qwen", "--pod", "b")
    assert a.quiet() == b.quiet() == {} and a.records() == b.records() == []


def test_without_a_private_network_the_door_spreads(pi: Pi, pods: tuple[Pod, Pod]) -> None:
    started = start(pi, "--replicas", "2", "--private")
    assert "b: 1 replica; pi door spreads the requests: --private keeps it on its loopback" in started
    door = open_door(pi)
    listed = json.loads(door.ask(path="/v1/models")[1])["data"]
    assert [each["id"] for each in listed] == ["qwen"]

    def answers() -> list[str]:
        texts = [door.chat(stream=True, prompt_cache_key=str(session)) for session in range(20)]
        return ["a" if '"a"' in text else "b" if '"b"' in text else text for _, text in texts]

    first = answers()
    assert set(first) == {"a", "b"} and answers() == first
    pods[1].down()
    assert set(answers()) == {"a"}, "the other pod is out of reach"
    pods[1].up()
    pi.ok("stop", "qwen", "--pod", "b")
    assert set(answers()) == {"a"}


def test_what_cannot_be_spread_is_refused(pi: Pi, pods: tuple[Pod, Pod]) -> None:
    for words, error in (
        (("--replicas", "1"), "replicas-few"),
        (("--replicas", "2", "--insecure-public"), "flags-conflict"),
        (("--replicas", "2", "--address", "a=8.8.8.8"), "address-public"),
        (("--replicas", "2", "--pod", "b"), "span-head"),
    ):
        assert pi("start", "~/models/m", "--name", "qwen", "--across", "a,b", *words).id == error
    assert [pod.records() for pod in pods] == [[], []]
