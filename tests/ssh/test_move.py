"""`pi move`: a model goes to another pod, and the door loses no request."""

from __future__ import annotations

import itertools
import json
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command import Pi
from tests.rig.pod import Pod, until
from tests.ssh.conftest import NewPod
from tests.ssh.test_door import open_door

STREAMS, AT_ONCE = 500, 16


@pytest.fixture
def pods(pi: Pi, new_pod: NewPod) -> Iterator[tuple[Pod, Pod]]:
    """Two pods, whose models answer with the name of their pod; `qwen` runs on the first."""
    both = new_pod("dc1"), new_pod("dc2")
    pi.knows(*both)
    for pod in both:
        pod.fault("vllm", say=["it is ", pod.name, "."], pause_s=0.05)
    pi.ok("start", both[0].model(), "--name", "qwen", "--context", "4k")
    yield both
    pi("door", "stop")


def places(pi: Pi) -> dict[str, list[str]]:
    """Return the models of each pod by pods.json."""
    return {name: list(pod["models"]) for name, pod in pi.state()["pods"].items()}


def said(answer: tuple[int, str]) -> str:
    """Return what a whole stream says; fail if it is cut."""
    status, text = answer
    assert status == 200 and text.endswith("data: [DONE]\n\n") and "event: error" not in text, answer
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return "".join(piece["choices"][0]["delta"].get("content", "") for piece in chunks if piece["choices"])


@pytest.mark.long
def test_no_stream_through_the_door_is_lost(pi: Pi, pods: tuple[Pod, Pod]) -> None:
    client, counter, listed = open_door(pi), itertools.count(1), set[str]()
    running = pi.spawn("move", "qwen", "dc2")

    def ask(_: int) -> list[str]:
        answers = []
        while next(counter) <= STREAMS or running.is_running():
            answers.append(said(client.chat(stream=True)))
        return answers

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(ask, number) for number in range(AT_ONCE)]
        while running.is_running():
            listed.add(client.ask(path="/v1/models")[1])
        done = running.ends(60)
    answers = Counter(answer for each in asked for answer in each.result())
    assert done.code == 0 and "moved qwen from dc1 to dc2" in done.out, done
    assert '  pi prompt qwen --pod dc2 "Hello"' in done.out
    assert "no model is left on dc1; the machine keeps running (and billing)" in done.err
    assert set(answers) == {"it is dc1.", "it is dc2."} and answers.total() >= STREAMS
    assert {tuple(each["id"] for each in json.loads(text)["data"]) for text in listed} == {("qwen",)}
    assert [pod.records() for pod in pods] == [[], ["qwen"]] and places(pi) == {"dc1": [], "dc2": ["qwen"]}
    assert pods[1].received("qwen")["argv"].count("4096") == 1
    assert "qwen is on dc2 already" in pi.ok("move", "qwen", "dc2")


@pytest.mark.long
def test_a_model_with_replicas_moves_whole_and_loses_no_stream(pi: Pi, pods: tuple[Pod, Pod]) -> None:
    pi.ok("start", pods[0].model("n"), "--name", "rep", "--replicas", "2")
    client, running = open_door(pi), pi.spawn("move", "rep", "dc2")
    assert until(lambda: "rep.1" in pods[1].records(), 60)
    running.interrupt(signal.SIGKILL)
    assert running.ends().code == -9
    running = pi.spawn("move", "rep", "dc2")

    def ask(_: int) -> list[str]:
        answers = []
        while running.is_running():
            answers.append(said(client.chat("rep", stream=True)))
        return answers

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(ask, number) for number in range(AT_ONCE)]
        done = running.ends(120)
    answers = Counter(answer for each in asked for answer in each.result())
    assert done.code == 0 and "moved rep from dc1 to dc2" in done.out, done
    assert set(answers) == {"it is dc1.", "it is dc2."}
    assert [pod.records() for pod in pods] == [["qwen"], ["rep", "rep.1", "rep.2"]]
    assert places(pi) == {"dc1": ["qwen"], "dc2": ["rep", "rep.1", "rep.2"]}
    assert pi("move", "rep.1", "dc1").id == "is-replica"
    assert "rep has 3 replicas on dc2" in pi.ok("scale", "rep", "3", "--pod", "dc2")


@pytest.mark.long
def test_a_move_that_fails_or_is_interrupted_leaves_the_model_where_it_was(
    pi: Pi, pods: tuple[Pod, Pod], tmp_path: Path
) -> None:
    first, second = pods
    other = Pi(tmp_path / "other")
    other.knows(*pods)
    other.write(pi.state())
    client = open_door(pi)
    second.fault("vllm", exit=1)
    done = pi("move", "qwen", "dc2")
    assert done.code == 6 and "qwen still runs on dc1; to try again: pi move qwen dc2 --from dc1" in done.err
    assert said(client.chat(stream=True)) == "it is dc1." and places(pi) == {"dc1": ["qwen"], "dc2": []}
    second.fault("vllm", say=["it is dc2."], load_until="go")
    for number in (signal.SIGINT, signal.SIGKILL):
        running = pi.spawn("move", "qwen", "dc2")
        assert until(lambda: "loading" in pi.ok("list", "--pod", "dc2"), 60)
        assert said(client.chat(stream=True)) == "it is dc1."
        running.interrupt(number)
        assert running.ends().code in (130, -9)
        assert said(client.chat(stream=True)) == "it is dc1."
        left = ["qwen"] if number == signal.SIGKILL else []
        assert places(pi) == {"dc1": ["qwen"], "dc2": left}
    running = pi.spawn("move", "qwen", "dc2")
    (second.home / "go").touch()
    assert running.ends(60).code == 0
    assert said(client.chat(stream=True)) == "it is dc2." and first.records() == [] and second.records() == ["qwen"]
    elsewhere = open_door(other)
    try:
        assert said(elsewhere.chat(stream=True)) == "it is dc2.", "its pods.json had the model on dc1"
    finally:
        other("door", "stop")
    assert first.records() == [] and places(other) == {"dc1": [], "dc2": ["qwen"]}


def test_what_cannot_be_moved_is_refused(pi: Pi, pods: tuple[Pod, Pod]) -> None:
    first, _ = pods
    pi.ok("start", first.model("other"), "--name", "qwen", "--pod", "dc2")
    done = pi("move", "qwen", "dc2", "--from", "dc1")
    assert (done.code, done.id) == (5, "move-name-taken") and "qwen still runs on dc1" in done.err
    assert pi("move", "nobody", "dc2").id == "unknown-name"
    assert pi("move", "qwen", "dc3").id == "unknown-pod"
    state: dict[str, Any] = pi.state()
    assert not any("move" in model for pod in state["pods"].values() for model in pod["models"].values())
    del state["pods"]["dc1"]["models"]["qwen"]["options"]
    del state["pods"]["dc2"]["models"]["qwen"]
    pi.write(state)
    assert pi("move", "qwen", "dc2").id == "options-unknown"
