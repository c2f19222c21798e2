"""`--on-idle`: the pod stops itself after its last model, by its provider's API (`tests/rig/provider.py` stands in)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command import Pi
from tests.rig.pod import Pod, kill, until
from tests.rig.provider import RUNPOD_STOPS, VAST_REFUSES, VAST_STOPS, provider
from tests.ssh.conftest import FIRST_STEPS, NewPod

KEY = "rpa_0123456789CANARY"

QUICK = {"PI_TEST_PACE": "0.02"}

RUNPOD = {**QUICK, "RUNPOD_POD_ID": "abc123xyz", "RUNPOD_API_KEY": KEY}

VAST = {**QUICK, "CONTAINER_ID": "1234567", "CONTAINER_API_KEY": KEY}

IDLE = ("--stop-after-idle", "2m", "--on-idle", "stop-pod")


def listed(pi: Pi, name: str = "qwen") -> dict[str, Any]:
    models = json.loads(pi.ok("list", "--json"))["pods"][0]["models"]
    return next(model for model in models if model["name"] == name)


def busy(box: Pod) -> None:
    """Keep the models busy, also those that start."""
    box.fault("vllm", requests=[0, 1])


def ends(box: Pod) -> None:
    """Have nobody use the models, until the pod is about to end."""
    box.fault("vllm", requests=[0, 0])
    assert until((box.home / ".pi/run/qwen/pod_stop").exists, 30)


@pytest.mark.long
def test_a_runpod_stops_after_its_last_model_and_not_before(pi: Pi, new_pod: NewPod) -> None:
    box = new_pod(environment=RUNPOD)
    pi.knows(box)
    model = box.model()
    plan = pi.ok("start", model, "--name", "qwen", *IDLE, "--dry-run")
    assert "POST https://rest.runpod.io/v1/pods/abc123xyz/stop with its RUNPOD_API_KEY" in plan
    assert "goes on billing for the volume" in plan and box.records() == []
    busy(box)
    pi.ok("start", model, "--name", "other")
    pi.ok("start", model, "--name", "qwen", *IDLE)
    assert listed(pi)["sentence"].endswith("stops after 2 min without a request; then the pod stops too")
    assert not {"RUNPOD_API_KEY"} & set(box.received("qwen")["env"])
    with provider([(500, {"error": "try later"}), RUNPOD_STOPS]) as api:
        api.stands_in(box, "qwen")
        ends(box)
        assert listed(pi)["sentence"].endswith("; pi restart qwen; the pod stays: other is on it")
        assert api.requests == []
        busy(box)
        pi.ok("stop", "other")
        pi.ok("restart", "qwen")
        api.stands_in(box, "qwen")
        ends(box)
        assert until(lambda: len(api.requests) == 2)
        assert api.requests == [("POST", "/v1/pods/abc123xyz/stop", f"Bearer {KEY}", "")] * 2
        assert until(lambda: "agreed" in listed(pi)["pod_stop"])
    log = box.log_of("qwen").read_text()
    assert "pi: the pod is not stopped yet: RunPod answered 500: try later; try 1 of 5" in log
    assert listed(pi)["on_idle"] == "runpod" and box.record("qwen")["on_idle"] == "runpod"
    for pid, words in box.processes().items():  # the provider ends them all
        assert KEY not in words
        kill(pid)
    files = [path for path in (box.home / ".pi").rglob("*") if path.is_file()]
    assert not [path for path in files if KEY in path.read_text(errors="replace")]
    assert KEY not in log + pi.state_file.read_text() + "".join(pi.printed)


@pytest.mark.long
def test_a_stop_that_fails_is_tried_five_times_and_said(pi: Pi, new_pod: NewPod) -> None:
    box = new_pod(environment=VAST)
    pi.knows(box)
    busy(box)
    pi.ok("start", box.model(), "--name", "qwen", *IDLE)
    with provider([VAST_REFUSES]) as api:
        api.stands_in(box, "qwen")
        ends(box)
        assert until(lambda: "given up" in (listed(pi)["pod_stop"] or ""))
    assert api.requests == [
        ("PUT", "/api/v0/instances/1234567/", f"Bearer {KEY}", '{"state": "stopped"}'),
    ] * 5  # fmt: skip
    said = "the pod still runs and bills: Vast.ai refused: no such instance; pi has given up after 5 tries"
    assert listed(pi)["pod_stop"] == said and said in pi.ok("logs", "qwen", "--no-follow")
    assert box.quiet() == {}
    busy(box)
    with provider([VAST_STOPS]) as api:
        pi.ok("restart", "qwen")
        api.stands_in(box, "qwen")
        pi.ok("stop", "qwen")
        assert box.quiet() == {} and api.requests == [], "only a model that nobody used stops the pod"


@pytest.mark.long
def test_the_setting_of_the_setup_runs_the_users_command(pi: Pi, new_pod: NewPod) -> None:
    box = new_pod(environment=VAST)
    command = "echo $CONTAINER_ID 'two  words' >~/ended; exit 0"
    pi.knows(box, on_idle=command)
    plan = pi.ok("start", box.model(), "--name", "qwen", "--stop-after-idle", "2m", "--dry-run")
    assert f"the pod then runs {command}" in plan
    box.fault("vllm", requests=[0, 0])
    pi.ok("start", box.model("n"), "--name", "qwen", "--stop-after-idle", "2m")
    assert "on-idle" not in pi.models("box")["qwen"]["options"]
    ended = box.home / "ended"
    assert until(lambda: ended.exists() and ended.read_text(), 30)
    assert ended.read_text() == "1234567 two  words\n"
    assert until(lambda: "has ended with 0" in listed(pi)["pod_stop"])
    assert box.quiet() == {}


@pytest.mark.long
def test_a_setup_prints_what_the_pod_will_call_and_keeps_it(pi: Pi, new_pod: NewPod) -> None:
    first_steps = {"PI_SETUP_ONLY": FIRST_STEPS}
    other = new_pod("other", environment=first_steps).bare_machine(Path("/bin/false"))
    done = pi("pods", "setup", "other", other.ssh, "--on-idle", "stop-pod")
    assert (done.code, done.id) == (2, "on-idle-no-provider") and not (other.home / ".pi/setup/log").exists()
    box = new_pod(environment={**RUNPOD, "PI_TEST_PACE": "1", **first_steps}).bare_machine(Path("/bin/false"))
    said = pi.ok("pods", "setup", "box", box.ssh, "--on-idle", "stop-pod")
    assert "box: after --stop-after-idle has ended a model: if no other model is on it, the pod then calls POST" in said
    assert "RunPod goes on billing for the volume" in said and KEY not in said
    assert pi.state()["pods"]["box"]["on_idle"] == "stop-pod"
    assert "then calls POST" in pi.ok("pods", "setup", "box")
    assert "then calls" not in pi.ok("pods", "setup", "box", "--on-idle", "keep-pod")


@pytest.mark.parametrize(
    ("words", "id"),
    [
        (("--on-idle", "stop-pod"), "flag-requires"),
        (("--stop-after-idle", "2m", "--on-idle", "stoppod"), "on-idle-invalid"),
        (("--stop-after-idle", "2m", "--on-idle", "curl -H sk-test-0123456789abcdefCANARY"), "on-idle-secret"),
        ((*IDLE, "--dry-run"), "on-idle-no-provider"),
        (IDLE, "on-idle-no-provider"),
    ],
)
def test_what_cannot_stop_the_pod_is_refused(pi: Pi, box: Pod, words: tuple[str, ...], id: str) -> None:
    done = pi("start", box.model(), "--name", "q", *words)
    assert (done.code, done.id) == (2, id) and box.records() == []
