"""Pods for tests: GPUs as `nvidia-smi` described real ones, read by the same code that reads a pod's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pi.planning.types import PodFacts
from pi.pods import gpus

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "gpus.json").read_text())
KINDS = tuple(FIXTURE["gpus"])
COUNTS = tuple(FIXTURE["counts"])


def pod(kind: str, count: int, nodes: int = 1) -> PodFacts:
    """An idle pod of so many GPUs of a kind, on vLLM 0.32.0."""
    gpu = FIXTURE["gpus"][kind]
    answer = "\n".join(
        f"{index}, {gpu['name']}, {gpu['memory_mib']}, 4, , {gpu['compute_cap']}, 580.65.06" for index in range(count)
    )
    found, skipped = gpus.parse(answer)
    assert not skipped
    return PodFacts(tuple(found), vllm_version="0.32.0", nodes=nodes)


def every_pod() -> Iterator[tuple[str, PodFacts]]:
    """All kinds in all counts on one pod, and 16 GPUs of each over two, with a name for each pod."""
    spread = FIXTURE["two_pods"]
    for kind in KINDS:
        for count in COUNTS:
            yield f"{count}x {kind}", pod(kind, count)
        yield f"{spread['pods']}x {spread['gpus_each']}x {kind}", pod(kind, spread["gpus_each"], spread["pods"])


def cpu_pod(memory_gib: int = 64, cpus: int = 8) -> PodFacts:
    """A pod without a GPU."""
    return PodFacts((), memory_mib=memory_gib * 1024, cpus=cpus, device="cpu", vllm_version="0.32.0+cpu")


def busy(facts: PodFacts, gpu: int, used_mib: int) -> PodFacts:
    """The pod with memory of one GPU in use."""
    changed = tuple(replace(g, used_mib=used_mib) if g.id == gpu else g for g in facts.gpus)
    return replace(facts, gpus=changed)
