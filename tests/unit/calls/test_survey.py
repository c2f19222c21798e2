"""The facts of a pod, read from its survey."""

from __future__ import annotations

from typing import Any

import pytest

from pi.calls.survey import facts
from pi.on_pod.gpus import AMD

SURVEY: Any = {
    "gpu_processes": [],
    "ports": [22],
    "records": [],
    "vllm_version": "0.32.0",
    "extra_venvs": {},
    "memory_mib": 65536,
    "cpus": 8,
    "disk_free_bytes": 2**40,
    "public": {},
    "model": None,
    "sizes": {},
}

ROW = "0, NVIDIA L4, 23034, 4, GPU-1f0c0e3a-0000-0000-0000-000000000001, 8.9, 580.65.06\n"

DEVICES = [
    ({"text": ROW, "error": None}, "cuda", ()),
    ({"text": "", "error": "nvidia-smi not found"}, "cpu", ("nvidia-smi not found",)),
    ({"text": "", "error": AMD}, "amd", (AMD,)),
]


@pytest.mark.parametrize(("gpus", "device", "unread"), DEVICES, ids=[device for _, device, _ in DEVICES])
def test_gpus_give_the_device_of_a_pod(gpus: Any, device: str, unread: tuple[str, ...]) -> None:
    survey: Any = {**SURVEY, "gpus": gpus}
    found = facts(survey)
    assert (found.device, found.unread_gpus) == (device, unread)


@pytest.mark.parametrize(
    ("built", "without_code"),
    [
        ({"venv": ["sm_80", "sm_90"]}, {1}),
        ({"venv": ["sm_80"], "venv-0.33.0": ["sm_100"]}, set()),
        ({"venv": ["sm_80"]}, set()),
        ({}, set()),
    ],
    ids=["one venv", "an extra venv has code", "nothing known of the extra venv", "nothing known"],
)
def test_gpus_for_which_no_pytorch_has_code_are_known(built: Any, without_code: set[int]) -> None:
    extra = {"venv-0.33.0": "0.33.0"} if without_code == set() and built else {}
    b200 = ROW.replace("0, NVIDIA L4", "1, NVIDIA B200").replace("8.9", "10.0").replace("0001,", "0002,")
    survey: Any = {**SURVEY, "gpus": {"text": ROW + b200, "error": None}, "architectures": built, "extra_venvs": extra}
    assert facts(survey).without_code == without_code
