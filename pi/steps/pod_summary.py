"""Describe a pod's GPUs and vLLM versions in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pi.pods.gpus import Gpu, memory_label
from pi.pods.types import Pod
from pi.steps import spending

if TYPE_CHECKING:
    from pi.steps.json_shapes import PodJson
    from pi.steps.pods_now import Now


def gpu_summary(pod: Pod) -> str:
    """Describe the GPUs of a pod, or say that no setup has found them yet."""
    if pod.is_unfinished:
        return "setup not finished"
    return gpu_kinds(pod.gpus) if pod.is_set_up else "not set up"


def gpu_kinds(gpus: Iterable[Gpu]) -> str:
    """Describe GPUs, such as "2x H100 80GB HBM3 (80GB)"; "none (CPU)" without any."""
    kinds = Counter((gpu.name, gpu.memory_mib) for gpu in gpus)
    return ", ".join(f"{n}x {name} ({memory_label(mib)})" for (name, mib), n in kinds.items()) or "none (CPU)"


def versions(pod: Pod) -> str:
    """List the vLLM versions, such as "0.32.0" or "0.32.0, beside it 0.33.0"."""
    return (pod.vllm_version or "-") + "".join(f", beside it {version}" for version in pod.extra_venvs.values())


def as_json(pod: Pod, is_active: bool, first_name: str, price: float | None, now: Now | None) -> PodJson:
    """Return a pod as `pi pods --json` prints it; `first_name` is the first name of its machine.

    `now` is what it reports, or None if pi did not ask.
    """
    used = dict(now.used_mib) if now else {}
    hours = spending.hours(pod)
    return {
        "name": pod.name,
        "active": is_active,
        "ssh": pod.ssh,
        "gpus": [
            {"index": gpu.id, "name": gpu.name, "memory_mib": gpu.memory_mib, "used_mib": used.get(gpu.id)}
            for gpu in pod.gpus
        ],
        "models": list(pod.models),
        "vllm_version": pod.vllm_version,
        "extra_venvs": dict(pod.extra_venvs),
        "models_path": pod.models_path,
        "same_machine_as": first_name if first_name != pod.name else None,
        "price_per_hour": price,
        "cost": None if price is None or hours is None else round(price * hours, 2),
        "error": now.error if now else None,
        "up_seconds": int(now.up_s) if now and now.up_s is not None else None,
        "idle_seconds": int(now.idle_s) if now and now.idle_s is not None else None,
    }
