"""`pi door` before a model on a pod: streams, keys, a background process, lost connections."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate

from chores.json_schemas import shown
from tests.rig.command import KEY, Pi
from tests.rig.pod import Pod, is_alive, kill, until
from tests.rig.sshd import free_port
from tests.ssh.conftest import Serving
from tests.ssh.test_tunnel import silenced

CHAT = "/v1/chat/completions"


class Client:
    """Sends requests to a door with its key."""

    def __init__(self, pi: Pi, port: int) -> None:
        self.port = port
        self.key = (pi.config / "door" / "key").read_text().strip()

    def ask(self, document: object = None, path: str = CHAT, **headers: str) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            body = None if document is None else json.dumps(document)
            given: Mapping[str, str] = {"Authorization": f"Bearer {self.key}", **headers}
            connection.request("GET" if body is None else "POST", path, body, given)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()

    def chat(self, model: str = "qwen", **more: Any) -> tuple[int, str]:
        return self.ask({"model": model, "messages": [{"role": "user", "content": "hi"}], **more})

    def notes(self) -> str:
        """Return what the door says of its models."""
        return self.ask(path="/door")[1]

    def answers(self) -> bool:
        try:
            return self.chat(stream=True)[0] == 200
        except OSError:
            return False


@pytest.fixture
def server(serving: Serving) -> Iterator[Pi]:
    """A pi before a running model; no door stays open."""
    yield serving.pi
    serving.pi("door", "stop")


def open_door(pi: Pi, *words: str) -> Client:
    port = free_port()
    opened = pi.ok("door", "--port", str(port), "--background", *words)
    assert opened == f"the door is at http://127.0.0.1:{port}/v1; its key is in {pi.config}/door/key\n"
    return Client(pi, port)


def test_a_door_in_the_background_streams_over_ssh(server: Pi) -> None:
    pi = server
    assert pi.ok("door", "status") == "the door is closed; open it: pi door --background\n"
    client = open_door(pi, "--ttl", "30m")
    status, text = client.chat(stream=True)
    words = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    said = "".join(piece["choices"][0]["delta"].get("content", "") for piece in words if piece["choices"])
    assert (status, said) == (200, "The capital of France is Paris.") and text.endswith("data: [DONE]\n\n")
    assert KEY not in text
    assert [each["id"] for each in json.loads(client.ask(path="/v1/models")[1])["data"]] == ["qwen"]
    assert client.ask(path="/v1/models", Authorization="Bearer wrong")[0] == 401
    assert client.ask(path="/v1/models", Host="evil.example")[0] == 403
    status, text = client.chat("nobody")
    assert status == 404 and "the door has qwen" in text
    pid = json.loads((pi.config / "door" / "door.json").read_text())["pid"]
    for name in os.listdir(pi.config / "door"):
        assert stat.S_IMODE((pi.config / "door" / name).stat().st_mode) == 0o600, name
    text = pi.ok("door", "status")
    assert f"pid {pid}" in text and "qwen" in text and client.key not in text
    document = json.loads(pi.ok("door", "status", "--json"))
    validate(document, shown("DoorJson"))
    assert document["pid"] == pid and [each["id"] for each in document["models"]] == ["qwen"]
    assert "qwen: running; the door stops it after 30 min without a request" in pi.ok("list")
    assert json.loads(pi.ok("list", "--json"))["pods"][0]["models"][0]["door_stops_after_s"] == 1800
    assert pi("door", "--background").id == "door-open"
    assert pi.ok("door", "stop") == f"closed the door at http://127.0.0.1:{client.port}/v1\n"
    assert until(lambda: not is_alive(pid)) and not client.answers()
    assert pi.ok("door", "stop") == "the door is closed\n"


@pytest.mark.long
def test_a_door_outlives_its_connections_and_a_killed_one_leaves_no_trace(server: Pi, serving: Serving) -> None:
    pi = server
    client = open_door(pi)
    assert client.answers()
    for session in serving.box.sessions():
        kill(session)
    assert client.answers()
    with silenced(serving.box):
        assert client.answers()
    pid = json.loads((pi.config / "door" / "door.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)  # a laptop that sleeps, whose connections die meanwhile
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.answers)
        for session in serving.box.sessions():
            kill(session)
        os.kill(pid, signal.SIGCONT)
        assert asked.result() and serving.box.records() == ["qwen"]
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: "closed" in pi("door", "status").out)
    again = pi.spawn("door")
    again.reads(f"http://127.0.0.1:{client.port}/v1")
    assert client.answers(), "the same port and key"
    again.interrupt()
    assert again.ends().code == 0 and not client.answers()


def test_of_two_doors_that_open_at_once_one_is_refused(server: Pi) -> None:
    pi = server
    both = [pi.spawn("door", "--port", str(free_port())) for _ in range(2)]
    assert until(lambda: [each.is_running() for each in both].count(True) == 1, 30)
    [open_one], [refused] = ([each for each in both if each.is_running() is runs] for runs in (True, False))
    assert refused.ends().id == "door-open" and f"pid {open_one.pid}" in pi.ok("door", "status")
    open_one.interrupt()
    assert open_one.ends().code == 0


def test_a_door_that_cannot_open_says_why(server: Pi) -> None:
    pi = server
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert pi("door", "--port", port).id == "local-port-taken"
        done = pi("door", "--port", port, "--background")
    assert (done.code, done.id) == (5, "door-failed") and f"cannot listen on port {port}" in done.err
    assert pi("door", "--port", "x").id == "port-invalid"
    assert pi("door", "--host", "192.0.2.1").id == "door-host-invalid"
    state = pi.state()
    state["pods"]["dead"] = {**state["pods"]["box"], "ssh": "ssh -p 1 root@127.0.0.1"}
    pi.write(state)
    client = open_door(pi)
    status, text = client.chat("dead/qwen")
    assert status == 502 and "cannot reach pod 'dead'" in text and "pi pods remove dead" in text


@pytest.mark.long
@pytest.mark.pace(0.2)
def test_an_idle_model_is_stopped_and_a_request_starts_it_once(pi: Pi, box: Pod) -> None:
    model = box.model()
    pi.ok("start", model, "--name", "qwen", "--context", "4k")
    try:
        client = open_door(pi, "--ttl", "5")
        assert until(lambda: "starts on a request" in client.notes())
        assert "no models on box" in pi.ok("list")
        box.fault("vllm", load_s=1)
        with ThreadPoolExecutor(4) as pool:
            streams = [pool.submit(client.chat, stream=True) for _ in range(2)]
            others = [pool.submit(client.chat) for _ in range(2)]
            assert until(lambda: "start for" in client.notes())
            assert "asked for by /v1/chat/completions" in pi.ok("door", "status")
        for status, text in (asked.result() for asked in (*streams, *others)):
            assert status == 200 and " is Paris." in text and "data: [DONE]" in text
        assert all(asked.result()[1].startswith(": qwen on box is starting\n\n") for asked in streams)
        assert not any("is starting" in asked.result()[1] for asked in others)
        assert box.received("qwen")["argv"].count("4096") == 1
        assert len(re.findall(r" start +qwen +ok", pi.ok("audit"))) == 2
        assert until(lambda: "starts on a request" in client.notes())
        assert "the door does not start it any more" in pi.ok("stop", "qwen")
        assert client.chat()[0] == 404 and pi("stop", "qwen").id == "unknown-name"
    finally:
        pi.ok("door", "stop")


@pytest.mark.long
@pytest.mark.pace(0.2)
def test_a_start_that_fails_is_an_error_and_not_repeated_at_once(pi: Pi, box: Pod) -> None:
    box.fault("vllm", exit=1, load_s=0.5)
    entry = {"model": box.model(), "port": free_port(), "gpus": [], "pid": 7, "boot_id": "an earlier one"}
    state = pi.state()
    state["pods"]["box"]["models"] = {"qwen": {**entry, "options": {"model": entry["model"]}}, "bge": entry}
    pi.write(state)
    client = open_door(pi)
    try:
        status, text = client.chat(stream=True)
        event = json.loads(text.split("event: error\ndata: ")[1])
        assert status == 200 and "qwen on box: start failed" in event["error"]["message"]
        status, text = client.chat()
        assert status == 503 and json.loads(text)["error"]["code"] == "start_failed"
        status, text = client.chat("bge")
        assert status == 503 and "bge on box does not answer" in text
        assert "start failed" in pi.ok("door", "status")
    finally:
        pi.ok("door", "stop")


@pytest.mark.slow
@pytest.mark.pace(0.2)
def test_a_killed_door_and_one_on_another_machine_start_a_model_once(pi: Pi, box: Pod, tmp_path: Path) -> None:
    other = Pi(tmp_path / "other")
    other.knows(box)
    model = box.model()
    ended = {"model": model, "port": free_port(), "gpus": [], "pid": 7, "options": {"model": model}}
    for each in (pi, other):
        state = each.state()
        state["pods"]["box"]["models"] = {"qwen": ended}
        each.write(state)
    box.fault("vllm", load_until="go")
    first = open_door(pi)
    with ThreadPoolExecutor(3) as pool:
        broken = pool.submit(first.answers)
        assert until(lambda: "start for" in first.notes() and "loading" in pi.ok("list"))
        os.kill(json.loads((pi.config / "door" / "door.json").read_text())["pid"], signal.SIGKILL)
        assert broken.exception() or not broken.result()
        clients = open_door(pi), open_door(other)
        asked = [pool.submit(client.chat) for client in clients]
        assert until(lambda: all("start for" in client.notes() for client in clients))
        (box.home / "go").touch()
        for answer in asked:
            assert answer.result()[0] == 200 and " is Paris." in answer.result()[1]
    assert [each.ok("door", "stop").startswith("closed") for each in (pi, other)] == [True, True]
    assert len(re.findall(r" start +qwen +ok", pi.ok("audit"))) == 1


@pytest.mark.long
def test_a_declared_model_starts_and_evicts_the_least_used_one(pi: Pi, box: Pod) -> None:
    box.cards("h100_8", count=1)
    declared = pi.home / "pi.toml"
    tables = (f'[pods.box.models.{name}]\nmodel = "{box.model(name)}"\nmemory = "60%"\n' for name in ("old", "new"))
    declared.write_text("".join(tables))
    assert pi("door", "--pin", "nobody").id == "pin-unknown"
    client = open_door(pi, "--evict")
    try:
        listed = json.loads(client.ask(path="/v1/models")[1])["data"]
        assert [(each["id"], each["state"]) for each in listed] == [("old", "stopped"), ("new", "stopped")]
        assert client.chat("old")[0] == 200
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.chat, "new")
            assert until(lambda: "more for old, which has just started" in client.notes(), 60)
            assert client.chat("old")[0] == 200, "it serves on"
            age(box, "old")
            assert asked.result()[0] == 200
        assert list(pi.models("box")) == ["new"]
        log = (pi.config / "door" / "log").read_text()
        assert "stop of old on box: makes room for new on box" in log and "start of new on box took" in log
        declared.write_text("[pods.box.models.new]\nmodell = 1\n")
        status = pi("door", "status")
        assert "unknown key modell; did you mean model?" in status.err and "old" in status.out
    finally:
        pi.ok("door", "stop")


@pytest.mark.long
def test_a_model_with_replicas_makes_room_whole_and_comes_back(pi: Pi, box: Pod) -> None:
    box.cards("h100_8", count=2)
    declared = pi.home / "pi.toml"
    table = '[pods.box.models.{}]\nmodel = "{}"\nmemory = "60%"\n{}\n'
    more = {"old": 'replicas = "2"', "new": ""}
    declared.write_text("".join(table.format(name, box.model(name), words) for name, words in more.items()))
    client = open_door(pi, "--evict")
    try:
        assert client.chat("old")[0] == 200
        assert sorted(pi.models("box")) == ["old", "old.1", "old.2"]
        for name in ("old", "old.1", "old.2"):
            age(box, name)
        assert client.chat("new")[0] == 200
        assert list(pi.models("box")) == ["new"] and box.records() == ["new"]
        age(box, "new")
        assert client.chat("old")[0] == 200
        assert sorted(pi.models("box")) == ["old", "old.1", "old.2"] and "old.1" not in client.notes()
    finally:
        pi.ok("door", "stop")


def age(box: Pod, name: str) -> None:
    """Make a model seem to run since the boot of its pod."""
    path = box.home / ".pi" / "run" / name / "record.json"
    path.write_text(json.dumps({**box.record(name), "launched": 1.0}))
