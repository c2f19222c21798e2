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
