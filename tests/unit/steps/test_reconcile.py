"""pods.json after a look at the pod: what it takes over, keeps and removes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pi.calls.status import Found, Status, Unrecorded
from pi.pods import state
from pi.pods.types import Deployment, Pod, State
from pi.steps import reconcile, states

POD = Pod("box", "ssh root@192.0.2.1")

NOTHING = Status((), (), (), (), None, None, None, {}, {}, "boot", "boot/1", "m", 9.0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    return tmp_path


def running(name: str) -> Found:
    model = Deployment(name, "a/b", 8001, (), 77, instance="d81ea378b66584d1", boot_id="boot")
    return Found(model, "running", None, None, None, (), (), 0, ())


def test_a_thousand_models_from_elsewhere_are_added_in_one_change(folder: Path) -> None:
    pod = replace(POD, boot="boot/1", machine="m")
    state.change(lambda before: State({"box": pod}, "box"))
    reconcile.reconcile(pod, replace(NOTHING, found=tuple(running(f"m{number}") for number in range(1000))))
    assert len(state.load().pods["box"].models) == 1000
    before = json.loads((folder / "pods.json.bak").read_text())
    assert not before["pods"]["box"].get("models")


@pytest.mark.parametrize(("active", "flag"), [("box", ""), ("other", " --pod box")])
def test_commands_name_a_pod_that_is_not_the_active_one(active: str, flag: str) -> None:
    state.change(lambda before: State({"box": POD, "other": replace(POD, name="other")}, active))
    odd = Unrecorded("qwen", "port is missing", (4242,), None, None, ())
    [listed] = states.listed(POD, replace(NOTHING, unrecorded=(odd,)), "192.0.2.1")
    assert f"pi stop qwen{flag} stops it" in listed.sentence
    crashed = replace(running("old"), state="crashed", last_lines=("Killed",))
    assert states.last_lines(POD, crashed)[0] == f"\nlast lines of old (for more: pi logs old{flag}):"


@pytest.mark.parametrize("pids", [(), (4242,)])
def test_a_model_with_a_damaged_record_stays_in_pods_json(pids: tuple[int, ...]) -> None:
    """Without a valid record, nothing proves that it is gone."""
    pod = replace(POD, models={"qwen": running("qwen").deployment})
    state.change(lambda before: State({"box": pod}, "box"))
    odd = Unrecorded("qwen", "port is missing", pids, None, None, ())
    status = replace(NOTHING, unrecorded=(odd,))
    [listed] = states.listed(pod, status, "192.0.2.1")
    assert listed.row()[:5] == ("qwen", "a/b", "-", "-", "8001") and listed.state == "unrecorded"
    assert "its record on the pod is damaged: port is missing" in listed.sentence
    assert f"pi stop qwen {'stops' if pids else 'removes'} it" in states.state_of(pod, "qwen", status)
    reconcile.reconcile(pod, status)
    assert state.load().pods["box"].models == pod.models
    reconcile.reconcile(pod, NOTHING)
    assert state.load().pods["box"].models == {}
