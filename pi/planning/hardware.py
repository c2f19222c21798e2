"""Kinds of NVIDIA GPUs and the number formats that each supports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from pi.pods.gpus import Gpu


@dataclass(frozen=True)
class Kind:
    """One product: its name in the catalog, its memory in `nvidia-smi`, its compute capability."""

    name: str
    title: str
    memory_mib: int
    capability: tuple[int, int]
    nvlink: bool
    pattern: str


KINDS = (
    Kind("gb300", "GB300", 284208, (10, 3), True, r"GB300"),
    Kind("b300", "B300", 275040, (10, 3), True, r"B300"),
    Kind("gb200", "GB200", 189471, (10, 0), True, r"GB200"),
    Kind("b200", "B200", 183359, (10, 0), True, r"B200"),
    Kind("gh200", "GH200", 97871, (9, 0), True, r"GH200"),
    Kind("h200", "H200", 143771, (9, 0), True, r"H200"),
    Kind("h100", "H100 80GB", 81559, (9, 0), True, r"H[18]00"),
    Kind("h20", "H20", 97871, (9, 0), True, r"H20\b"),
    Kind("rtx_pro_6000", "RTX PRO 6000", 97887, (12, 0), False, r"RTX PRO 6000"),
    Kind("rtx_5090", "RTX 5090", 32607, (12, 0), False, r"RTX 5090"),
    Kind("dgx_spark_gb10", "GB10", 122570, (12, 1), False, r"GB10\b"),
    Kind("l40s", "L40S", 46068, (8, 9), False, r"L40S"),
    Kind("l40", "L40", 46068, (8, 9), False, r"L40\b"),
    Kind("rtx_6000_ada", "RTX 6000 Ada", 49140, (8, 9), False, r"RTX 6000 Ada"),
    Kind("rtx_4090", "RTX 4090", 24564, (8, 9), False, r"RTX 4090"),
    Kind("l4", "L4", 23034, (8, 9), False, r"L4\b"),
    Kind("a100_80gb", "A100 80GB", 81920, (8, 0), True, r"A[18]00.*80G"),
    Kind("a100", "A100 40GB", 40960, (8, 0), True, r"A[18]00"),
    Kind("a6000", "RTX A6000", 49140, (8, 6), False, r"A6000|A40\b"),
    Kind("a10", "A10", 23028, (8, 6), False, r"A10G?\b"),
    Kind("rtx_3090", "RTX 3090", 24576, (8, 6), False, r"RTX 3090"),
    Kind("v100", "V100", 32768, (7, 0), True, r"V100"),
    Kind("t4", "T4", 15360, (7, 5), False, r"T4\b"),
)
"""Patterns match the name in `nvidia-smi`; the most specific comes first. Memory: `memory.total` of one card.
Capability: https://developer.nvidia.com/cuda-gpus."""

GENERATIONS = {7: "volta", 8: "ampere", 9: "hopper", 10: "blackwell", 12: "blackwell_rtx"}
"""By the first number of the capability; Ada is 8.9. Blackwell's RTX cards cannot run its data-center kernels."""

MIN_CAPABILITY: dict[str, tuple[int, int]] = {
    "fp32": (7, 0),
    "int4": (7, 5),
    "int8": (7, 5),
    "bf16": (8, 0),
    "mxfp4": (8, 0),
    "fp8": (8, 9),
    "mxfp8": (10, 0),
    "nvfp4": (10, 0),
}
"""Lowest compute capability with native support of a format. bf16, int8, int4 and mxfp4: `get_min_capability` of
vLLM's kernels. Ada added FP8 and Blackwell NVFP4; on older GPUs vLLM only unpacks such weights."""


def kind(gpu: Gpu) -> Kind | None:
    """Return the product with a GPU's name, or None if it is not listed."""
    return _matching(gpu.name)


@lru_cache(maxsize=64)
def _matching(name: str) -> Kind | None:
    return next((entry for entry in KINDS if re.search(rf"\b(?:{entry.pattern})", name)), None)


def by_name(name: str) -> Kind | None:
    """Return the product with this name in the catalog."""
    return next((entry for entry in KINDS if entry.name == name), None)


def capability(gpu: Gpu) -> tuple[int, int]:
    """Return the compute capability as reported, else by product, else Ampere's (8, 0), without FP8 and FP4."""
    product = kind(gpu)
    return gpu.compute_capability or (product.capability if product else (8, 0))


def labels(gpu: Gpu) -> frozenset[str]:
    """Return the names for this GPU in the catalog: its kind, its generation, `nvidia`."""
    major, minor = capability(gpu)
    generation = "ada" if (major, minor) == (8, 9) else GENERATIONS.get(major, "")
    product = kind(gpu)
    return frozenset({"nvidia", generation, product.name if product else ""} - {""})


def supports(gpu: Gpu, precision: str) -> bool:
    """Return whether a GPU supports a number format natively."""
    return capability(gpu) >= MIN_CAPABILITY.get(precision, (8, 0))
