"""GPU memory as CUDA reports it, which is less than nvidia-smi's total."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pi.planning import hardware
from pi.pods.gpus import Gpu

RESERVED_MIB = {
    "rtx_4090": 480,
    "rtx_3090": 450,
    "rtx_5090": 494,
    "l4": 475,
    "a10": 428,
    "t4": 450,
    "l40s": 582,
    "h100": 470,
    "h200": 620,
    "b200": 716,
    "gb200": 736,
    "b300": 927,
    "gb300": 950,
    "rtx_pro_6000": 640,
    "a100_80gb": 880,
    "a100": 522,
    "dgx_spark_gb10": 0,
}
"""`memory.total` of nvidia-smi minus the total in vLLM's line "Free memory on device (x/TOTAL GiB)". Public logs have
these totals: 4090 23.52 GiB, 3090 23.56, 5090 31.36, L4 22.03, A10G 22.07, T4 14.56, L40S 44.42, H100 79.19, H200
139.8, B200 178.36, GB200 184.31, B300 267.69, GB300 276.62, RTX PRO 6000 94.97, A100 79.14 and 39.49. GB10 shares the
host's memory: pi takes the host's total, because CUDA reports all of it."""

RESERVED_LEAST_MIB, RESERVED_PART = 410, 0.003
"""The same for other GPUs: a line through the table's values."""

SAME_CARD = 0.1
"""A GPU whose memory differs by more than this part from its kind's is a slice of it (MIG)."""


@dataclass(frozen=True)
class Card:
    """One GPU's memory in GiB: CUDA's `total_gib`, and what is free now.

    `rtx` is a GPU of the Blackwell RTX series; `unified` shares the host's memory. On a GPU that `sorts`, FlashInfer's
    sampler is missing (compute capability 7) or often does not build (12). vLLM captures batches of at most
    `largest_graph` sequences; 1024 on data-center Blackwell. FlashInfer's kernels of linear attention, which keep
    `checkpoints`, need Hopper or newer (`_resolve_gdn_prefill_backend`).
    """

    total_gib: float
    free_gib: float
    rtx: bool = False
    unified: bool = False
    a100: bool = False
    sorts: bool = False
    largest_graph: int = 512
    checkpoints: bool = True


def card_of(gpus: Iterable[Gpu]) -> Card:
    """Return the least memory of some GPUs of one kind."""
    gpus = tuple(gpus)
    first = min(gpus, key=lambda gpu: gpu.memory_mib)
    product = hardware.kind(first)
    name, generation = product.name if product else "", hardware.capability(first)[0]
    return Card(
        total_gib=usable_mib(first) / 1024,
        free_gib=min(gpu.free_mib for gpu in gpus) / 1024,
        rtx=generation == 12 and name != "dgx_spark_gb10",
        unified=name == "dgx_spark_gb10",
        a100=name.startswith("a100"),
        sorts=generation in (7, 12),
        largest_graph=1024 if generation == 10 else 512,
        checkpoints=generation >= 9,
    )


def usable_mib(gpu: Gpu) -> float:
    """Return the memory that CUDA reports for a GPU, in MiB."""
    product = hardware.kind(gpu)
    whole = product is not None and abs(gpu.memory_mib - product.memory_mib) <= SAME_CARD * product.memory_mib
    reserved = RESERVED_MIB.get(product.name) if product and whole else None
    if reserved is None:
        reserved = int(RESERVED_LEAST_MIB + RESERVED_PART * gpu.memory_mib)
    return max(0.0, gpu.memory_mib - reserved)
