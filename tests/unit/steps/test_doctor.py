"""`pi doctor`: what each fact of a machine or a pod leads to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pi.calls.doctor import PodHealth
from pi.calls.status import Found, Status, Unrecorded
from pi.planning.preflight import Folder, Line
from pi.pods.types import Deployment, Pod
from pi.steps import doctor_here, doctor_pod
from pi.steps.diagnosis import Checked
from tests.unit.planning.test_preflight import GOOD

POD = Pod("dc1", "ssh root@192.0.2.1", gpus=GOOD.gpus)
LINE = Line("pypi.org", 10**8, None)
FACTS = replace(GOOD, vllm_version="0.33.0", venv="3.12.7", made_venv=True, lines=(LINE,))
STATUS = Status((), (), GOOD.gpus, (), None, None, "0.33.0", {}, {}, "b", "b/1", "m", 5.0)
HEALTH = PodHealth("accepted", 0, ())


def wrong(lines: Iterable[Checked]) -> dict[str, str]:
    """Return level and text of each line that is not ok, by its check; each names what to do."""
    found = [each for each in lines if each.level != "ok"]
    assert all(each.fix for each in found)
    return {each.check: f"{each.level}: {each.text}" for each in found}


def test_a_pod_without_fault_has_a_line_for_each_check() -> None:
    lines = list(doctor_pod.lines(POD, FACTS, STATUS, HEALTH))
    assert wrong(lines) == {}
    checks = "system gpus disk cache venv clock ports network token leftovers"
    assert list(dict.fromkeys(each.check for each in lines)) == checks.split()


def model(state: Any, left: tuple[int, ...] = ()) -> Found:
    return Found(Deployment("q", "a/b", 8001, (), 77), state, 1, 5.0, "out of memory", (), left, 0, ())


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, str]]] = {
    "the driver": ({"cuda": "11.4"}, {}, {}, ("gpus", "failure: the NVIDIA driver supports CUDA up to 11.4")),
    "a lost GPU": ({}, {"gpus": ()}, {}, ("gpus", "failure: ")),
    "new GPUs": ({}, {"gpus": (*GOOD.gpus, *GOOD.gpus)}, {}, ("gpus", "warning: it has 2 GPUs, and pods.json knows 1")),
    "an odd GPU": ({"unread_gpus": ("1, ERR!",)}, {}, {}, ("gpus", "warning: ignoring unexpected nvidia-smi output")),
    "a full disk": ({}, {"full": "~/.pi"}, {}, ("disk", "failure: full: ~/.pi")),
    "little space": ({"home": Folder("/root", 10**9)}, {}, {}, ("disk", "warning: 1 GB free in /root")),
    "a dead mount": ({}, {"storage": "/mnt/x: Stale file handle"}, {}, ("cache", "failure: /mnt/x: Stale")),
    "no vLLM": ({"vllm_version": None}, {}, {}, ("venv", "failure: ~/venv has no vLLM")),
    "a broken venv": ({"venv": ""}, {}, {}, ("venv", "failure: the Python of ~/venv does not run")),
    "a wrong clock": ({"skew_s": 9000.0}, {}, {}, ("system", "warning: the pod's clock is 2 h ahead")),
    "no line": ({"lines": (Line("pypi.org", None, "no route"),)}, {}, {}, ("network", "warning: pypi.org: no route")),
    "a rejected token": ({}, {}, {"token": "rejected"}, ("token", "failure: the hub rejects it")),
    "no token": ({}, {}, {"token": "none"}, ("token", "warning: none")),
    "a damaged record": ({}, {"unrecorded": (Unrecorded("q", "", (9,), None, None, ()),)}, {}, ("models", "failure: ")),
    "a crash": ({}, {"found": (model("crashed"),)}, {}, ("models", "warning: q is crashed: out of memory")),
    "a left process": ({}, {"found": (model("crashed", (9,)),)}, {}, ("models", "failure: q has ended, but pid 9")),
    "half a download": (
        {},
        {},
        {"unfinished_bytes": 2**30, "abandoned": ("a/b",)},
        ("leftovers", "warning: 1.1 GB of downloads that did not end: a/b"),
    ),
}


@pytest.mark.parametrize(("facts", "status", "health", "said"), FAULTS.values(), ids=FAULTS)
def test_each_fault_has_its_line(
    facts: dict[str, Any], status: dict[str, Any], health: dict[str, Any], said: tuple[str, str]
) -> None:
    found = wrong(doctor_pod.lines(POD, replace(FACTS, **facts), replace(STATUS, **status), replace(HEALTH, **health)))
    check, text = said
    assert list(found) == [check] and found[check].startswith(text)


def test_a_pod_without_gpu_is_well_on_the_cpu() -> None:
    facts = replace(FACTS, device="cpu", gpus=(), unread_gpus=())
    assert wrong(doctor_pod.lines(replace(POD, gpus=()), facts, replace(STATUS, gpus=()), HEALTH)) == {}


def test_here_an_open_folder_a_dead_agent_and_a_missing_key_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "none"))
    monkeypatch.delenv("PI_API_KEY", raising=False)
    tmp_path.chmod(0o755)
    found = wrong(doctor_here.checks())
    assert found["folder"].startswith(f"warning: other users may read {tmp_path}")
    assert found["agent"] == "warning: it does not answer"
    assert found["key"] == "failure: PI_API_KEY is not set"


def test_here_a_damaged_pods_json_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    (tmp_path / "pods.json").write_text("{")
    assert "pods.json is invalid" in wrong(doctor_here.checks())["folder"]
