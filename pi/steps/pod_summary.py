"""Describe a pod's GPUs and vLLM versions in a few words."""

from __future__ import annotations

from collections import Counter

from pi.pods.gpus import memory_label
from pi.pods.types import Pod


def gpu_summary(pod: Pod) -> str:
    """Describe the GPUs, such as "2x H100 80GB HBM3 (80GB)"; "none (CPU)" without any."""
    if pod.is_unfinished:
        return "setup not finished"
    kinds = Counter((gpu.name, gpu.memory_mib) for gpu in pod.gpus)
    return ", ".join(f"{n}x {name} ({memory_label(mib)})" for (name, mib), n in kinds.items()) or "none (CPU)"


def versions(pod: Pod) -> str:
    """List the vLLM versions, such as "0.32.0" or "0.32.0, beside it 0.33.0"."""
    return (pod.vllm_version or "-") + "".join(f", beside it {version}" for version in pod.extra_venvs.values())
