"""Replicas on several pods: behind the first one's HAProxy over a private address, else spread by the door."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.rig.command import KEY, Pi
from tests.rig.network import NetworkPod, networks
from tests.rig.pod import Pod, kill, until
from tests.ssh.test_door import open_door

ADDRESSES = ("--address", "a=127.0.0.1", "--address", "b=127.0.0.1")
"""Both pods are this machine."""

pytestmark = [pytest.mark.long, pytest.mark.pace(0.2)]


@pytest.fixture
def pods(pi: Pi, two_pods: tuple[Pod, Pod]) -> Iterator[tuple[Pod, Pod]]:
    for pod in two_pods:
        pod.fault("vllm", say=["it is ", pod.name, "."])
    yield two_pods
    pi("door", "stop")


def start(pi: Pi, *words: str) -> str:
    return pi.ok("start", "~/models/m", "--name", "qwen", "--across", "a,b", *words)


def asked(port: int, session: int, key: str = KEY, host: str = "127.0.0.1") -> tuple[int, str]:
    """Return the status of a request and the replica that answered."""
    done = requests.post(
        f"http://{host}:{port}/v1/chat/completions",
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

    pi.ok("stop", "qwen", "--pod", "b")
    assert a.record("qwen")["elsewhere"] == [] and "elsewhere" not in pi.models("a")["qwen"]
    assert {asked(port, session) for session in range(30)} == {(200, "qwen.1"), (200, "qwen.2")}
    assert "qwen has 3 replicas over a and b" in pi.ok("scale", "qwen", "3", "--pod", "a"), "b starts again"
    assert "b/qwen.1" in {asked(port, session)[1] for session in range(60)}
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


@pytest.fixture
def apart(pi: Pi, tmp_path: Path, venv: Path) -> Iterator[tuple[NetworkPod, NetworkPod]]:
    """Two pods that have networks of their own, and a private one between them."""
    with networks() as made:
        spaces = made.namespace(), made.namespace()
        a, b = (NetworkPod(tmp_path / name, name, space) for name, space in zip("ab", spaces, strict=True))
        for pod in (a, b):
            pod.furnish(venv).up()
            pod.model()
            pod.fault("vllm", pause_s=0.02)
        pi.knows(a, b)
        yield a, b
        for pod in (a, b):
            pi("stop", "-y", "--pod", pod.name)
            pod.down()
            pod.space.down()


@pytest.mark.pace(1)
def test_a_pod_that_is_cut_off_gets_no_requests_and_holds_none(pi: Pi, apart: tuple[NetworkPod, NetworkPod]) -> None:
    a, b = apart
    started = start(pi, "--replicas", "2")
    assert f"b: 1 replica; a passes requests on to {b.space.private} (" in started
    port, host = pi.models("a")["qwen"]["port"], a.space.outer
    first = {session: asked(port, session, host=host) for session in range(30)}
    assert set(first.values()) == {(200, "qwen.1"), (200, "b/qwen.1")}
    own = pi.models("b")["qwen"]["port"]
    assert asked(own, 1, "wrong", b.space.outer)[0] == 401
    assert a.space.scan(b.space.private, own, pi.models("b")["qwen.1"]["port"]) == ([own], 0), (
        "its replica is on loopback"
    )

    b.fault("vllm", say=["x"] * 900, pause_s=0.1)
    pi.ok("restart", "qwen", "--pod", "b")  # a server reads the fault when it starts
    assert pi.models("b")["qwen"]["port"] == own
    assert until(lambda: "and those on b" in pi.ok("list", "--pod", "a"), 10)
    [there, *_] = [session for session, found in first.items() if found[1] == "b/qwen.1"]
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(asked_until_cut, port, there, host)
        time.sleep(1)
        b.space.cut_off()
        began = time.monotonic()
        assert held.result(30) == "cut"
        took_s = time.monotonic() - began
        print(f"the request broke off {took_s:.1f} s after the pod was cut off")
        assert took_s < 10
    began = time.monotonic()
    assert {asked(port, session, host=host) for session in range(30)} == {(200, "qwen.1")}
    assert time.monotonic() - began < 10
    b.space.connect_again()
    assert until(lambda: "and those on b" in pi.ok("list", "--pod", "a"), 20)


def asked_until_cut(port: int, session: int, host: str) -> str:
    """Return "cut" if an answer begins and breaks off."""
    body = {"model": "qwen", "messages": [], "stream": True}
    headers = {"Authorization": f"Bearer {KEY}", "X-Session-ID": str(session)}
    url = f"http://{host}:{port}/v1/chat/completions"
    with requests.post(url, json=body, headers=headers, stream=True, timeout=60) as reply:
        assert reply.headers["x-replica"] == "b/qwen.1"
        try:
            return "whole" if b"[DONE]" in b"".join(reply.iter_content(None)) else "cut"
        except requests.RequestException:
            return "cut"


def test_what_cannot_be_spread_is_refused(pi: Pi, pods: tuple[Pod, Pod]) -> None:
    for words, error in (
        (("--replicas", "1"), "replicas-few"),
        (("--replicas", "2", "--insecure-public"), "flags-conflict"),
        (("--replicas", "2", "--address", "a=8.8.8.8"), "address-public"),
        (("--replicas", "2", "--pod", "b"), "span-head"),
    ):
        assert pi("start", "~/models/m", "--name", "qwen", "--across", "a,b", *words).id == error
    assert [pod.records() for pod in pods] == [[], []]
