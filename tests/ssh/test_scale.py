"""`pi start --replicas` and `pi scale`: a real HAProxy in front of servers that are stand-ins."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
import requests

from tests.rig import traffic
from tests.rig.command import KEY, Pi
from tests.rig.pod import Pod, kill, listens, until
from tests.rig.standin_dialects import ANSWER
from tests.ssh.test_door import open_door


def asked(port: int, path: str = "/v1/models", **headers: str) -> int | str:
    """Return the status of a request, or "stopped" if HAProxy refused it, so that it reached no replica."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=named)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return "stopped" if error.headers.get("www-authenticate") == "Bearer" else error.code
    except OSError:
        return "nothing answers"


def shown(pi: Pi) -> dict[str, dict[str, Any]]:
    """Return the models of `pi list --json` by name."""
    [pod] = json.loads(pi.ok("list", "--json"))["pods"]
    return {model["name"]: model for model in pod["models"]}


def test_replicas_start_scale_crash_and_stop_behind_one_port(pi: Pi, box: Pod) -> None:
    started = pi.ok("start", box.model(), "--name", "qwen", "--replicas", "2")
    port = pi.models("box")["qwen"]["port"]
    assert port == 8001 and "qwen is ready on box" in started and f"2 replicas behind port {port}" in started

    rows = pi.ok("list").splitlines()
    assert [row.split("  ")[0] for row in rows[1:4]] == ["qwen", "├ qwen.1", "└ qwen.2"]
    assert "  qwen: running; 2 of 2 replicas serve" in rows
    models = shown(pi)
    assert models["qwen"]["replicas"] == {"qwen.1": "UP", "qwen.2": "UP"} and models["qwen"]["context"] == 8192
    assert [models[name]["replica_of"] for name in models] == [None, "qwen", "qwen"]

    bearer = {"Authorization": f"Bearer {KEY}"}
    assert asked(port, **bearer) == 200 and asked(port, "/health") == 200
    assert asked(port, "/metrics", **bearer) == 200
    without_key = [
        asked(port, path, x_api_key="k") for path in ("/v1/models", "/metrics", "/tokenize", "/no-such-route")
    ]
    assert set(without_key) == {"stopped"} and asked(port) == "stopped"
    preflight = {"Origin": "http://x.example", "Access-Control-Request-Method": "POST"}
    done = requests.options(
        f"http://127.0.0.1:{port}/v1/x", headers={**preflight, "Access-Control-Request-Headers": "authorization"}
    )
    assert (done.status_code, done.text, done.headers.get("x-replica")) == (200, "OK", None)
    assert done.headers["access-control-allow-origin"] == "*" and "POST" in done.headers["access-control-allow-methods"]
    assert done.headers["access-control-allow-headers"] == "authorization"
    assert requests.options(f"http://127.0.0.1:{port}/v1/x").status_code == 401
    added = pi("key", "add", "ann").out.strip()
    assert asked(port, x_api_key=added) == 401  # from the stand-in, which has no guard and so no named keys
    pi.ok("key", "revoke", "ann")
    assert asked(port, x_api_key=added) == "stopped"
    assert "Paris" in pi.ok("prompt", "qwen", "--no-tools", "Where?")

    kill(models["qwen.1"]["pid"])
    assert until(lambda: shown(pi)["qwen"]["replicas"]["qwen.1"] == "DOWN", 5)
    assert asked(port, **bearer) == 200
    assert "  qwen: running; 1 of 2 replicas serve; qwen.1 is down" in pi.ok("list")

    scaled = pi.ok("scale", "qwen", "3")
    assert "qwen.1 had ended and was removed" in scaled and "qwen has 3 replicas on box" in scaled
    models = shown(pi)
    assert set(models["qwen"]["replicas"].values()) == {"UP"} and len(models["qwen"]["replicas"]) == 3
    kill(models["qwen"]["pid"])  # HAProxy itself: its launcher starts it with the replicas of now
    assert until(lambda: asked(port, **bearer) == 200)
    assert len(shown(pi)["qwen"]["replicas"]) == 3

    assert "qwen.3 has answered its requests and is stopped" in pi.ok("scale", "qwen", "2")
    assert list(pi.models("box")) == ["qwen", "qwen.2", "qwen.1"] and box.records() == ["qwen", "qwen.1", "qwen.2"]
    assert pi.ok("stop", "qwen") == "qwen is stopped\nqwen.1 is stopped\nqwen.2 is stopped\n"
    assert box.quiet(0) == {} and box.records() == [] and pi.models("box") == {}


@pytest.mark.long
def test_replicas_with_gpus_of_their_own_start_at_the_same_time(pi: Pi, box: Pod) -> None:
    box.cards("h100_8", count=4)
    box.fault("vllm", load_s=3)
    words = ("start", box.model(), "--name", "qwen", "--replicas", "4", "--gpus", "1")
    started = pi.ok(*words)
    launched = [box.record(f"qwen.{number}")["launched"] for number in (1, 2, 3, 4)]
    assert launched[1] - launched[0] >= 3, "the first one downloads, and its failure has a hint"
    assert launched[3] - launched[1] < 3, "the others do not wait for each other"
    assert [box.record(f"qwen.{number}")["gpus"] for number in (1, 2, 3, 4)] == [[0], [1], [2], [3]]
    assert "qwen.2, qwen.3, qwen.4 are ready, too" in started and "qwen is ready on box" in started
    assert set(shown(pi)["qwen"]["replicas"].values()) == {"UP"} and len(pi.models("box")) == 5
    assert all(model["status"] == "running" for model in pi.models("box").values())
    pi.ok("stop", "qwen")
    box.fault("vllm", stands={}, refuses={"option": "--port", "above": 8003, "log": str(box.home / "words")})
    (box.home / "words").write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
    done = pi(*words)
    assert done.code != 0 and "qwen.3 did not start on box" in done.err and "out of memory" in done.err, done
    assert box.quiet() == {} and box.records() == [] and pi.models("box") == {}


def test_a_failed_replica_leaves_nothing_and_names_the_cause(pi: Pi, box: Pod) -> None:
    box.fault("vllm", exit=3)
    done = pi("start", box.model(), "--name", "qwen", "--replicas", "2")
    assert done.code != 0 and "qwen.1" in done.err
    assert box.quiet() == {} and box.records() == [] and pi.models("box") == {}
    for words in (("--replicas", "0"), ("--replicas", "2", "--detach"), ("--replicas", "2", "--stop-after-idle", "1h")):
        refused = pi("start", "m", "--name", "qwen", *words)
        assert refused.code == 2 and refused.id in ("replicas-invalid", "flags-conflict"), refused
    assert pi("scale", "qwen", "2").id == "no-replicas"


@pytest.mark.long
def test_anthropics_client_reaches_replicas_directly_and_through_the_door(pi: Pi, box: Pod) -> None:
    import anthropic  # seconds that each worker would need to collect its tests

    box.speak_dialects()
    pi.ok("start", box.model(), "--name", "qwen", "--replicas", "2")
    direct = f"http://127.0.0.1:{pi.models('box')['qwen']['port']}"
    door = open_door(pi)
    long_prompt = "word " * 20_000  # 100 kB; Claude Code sends 76 kB
    asked: dict[str, Any] = {
        "model": "qwen",
        "messages": [{"role": "user", "content": "Where?"}],
        "system": long_prompt,
    }
    try:
        for url, key in ((direct, KEY), (f"http://127.0.0.1:{door.port}", door.key)):
            with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0) as client:
                whole = client.messages.create(max_tokens=9, **asked)
                assert [block.text for block in whole.content if block.type == "text"] == [ANSWER]
                with client.messages.stream(max_tokens=9, **asked) as stream:
                    assert "".join(stream.text_stream) == ANSWER
                assert client.messages.count_tokens(**asked).input_tokens == 12
                with pytest.raises(anthropic.AuthenticationError):
                    client.with_options(api_key="sk-wrong").messages.create(max_tokens=9, **asked)
        body = json.dumps({**asked, "max_tokens": 9}).encode()
        pieces = (body[place : place + 5000] for place in range(0, len(body), 5000))  # without a length
        done = requests.post(f"{direct}/v1/messages", data=pieces, headers={"x-api-key": KEY}, timeout=30)
        assert done.status_code == 200 and done.headers["x-replica"] in ("qwen.1", "qwen.2")
    finally:
        pi.ok("door", "stop")
    received = (box.home / "received" / "requests.jsonl").read_text().splitlines()
    posted = [found["body"] for found in map(json.loads, received) if found["path"].startswith("/v1/messages")]
    assert len(posted) == 7 and all(found["system"] == long_prompt for found in posted)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_2000_requests_only_those_on_the_killed_replica_are_lost(pi: Pi, box: Pod) -> None:
    box.fault("vllm", pause_s=0.02)
    pi.ok("start", box.model(), "--name", "qwen", "--replicas", "3", timeout_s=300)
    port, moments = pi.models("box")["qwen"]["port"], list[float]()

    def kill_one() -> None:
        moments.append(time.monotonic())
        replica = box.record("qwen.2")
        kill(replica["pid"])
        assert until(lambda: not listens(replica["port"]))
        moments.append(time.monotonic())
        traffic.wait_for(box.log_of("qwen"), "replicas/qwen.2 is DOWN")
        moments.append(time.monotonic())

    def drain() -> None:
        assert "qwen.3 has answered its requests" in pi.ok("scale", "qwen", "1", timeout_s=300)

    done = traffic.run(f"http://127.0.0.1:{port}", KEY, "qwen", 2000, kill_one, drain)
    traffic.check(done, moments, "qwen")
    assert len(done) == 2000 and moments[2] - moments[1] < 2
    pi.ok("stop", "qwen")
