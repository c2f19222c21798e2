"""What a GPU can do: its product, its labels in the catalog, and how it computes each number format."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache

from pi.planning.gpu_kinds import KINDS as KINDS
from pi.planning.gpu_kinds import Kind as Kind
from pi.pods.gpus import Gpu, is_slice

SAME_PRODUCT = 0.85
"""A GPU with less than this part of a product's memory is a slice, a vGPU or another product of that name."""

OLDEST = (7, 5)
"""Lowest compute capability that vLLM runs on: its wheels have no code for older GPUs (Volta, Pascal)."""

HALF_ONLY = (8, 0)
"""GPUs below compute with FP16 instead of BF16 (`supported_dtypes` in vLLM's platforms/cuda.py)."""

FP8_TRITON = (8, 9)
"""GPUs below have no FP8 numbers in Triton kernels (vLLM's v1/attention/backends/triton_attn.py)."""

MODELOPT_FP8 = (8, 0)
"""NVIDIA's own FP8 checkpoints (`ModelOptFp8Config.get_min_capability`); all other FP8 runs from 7.5 on."""

GENERATIONS = {6: "pascal", 7: "volta", 8: "ampere", 9: "hopper", 10: "blackwell", 11: "thor", 12: "blackwell_rtx"}
"""By the first number of the capability, except `EXCEPTIONS`. Blackwell's RTX cards cannot run its data-center
kernels."""

EXCEPTIONS = {(7, 5): "turing", (8, 9): "ada"}

MIN_CAPABILITY: dict[str, tuple[int, int]] = {
    "fp32": OLDEST,
    "int4": OLDEST,
    "int8": OLDEST,
    "bf16": HALF_ONLY,
    "mxfp4": (8, 0),
    "fp8": (8, 9),
    "mxfp8": (10, 0),
    "nvfp4": (10, 0),
}
"""Lowest compute capability that computes a format as it is meant. INT4 and MXFP4 weights are made for 16-bit
arithmetic (Marlin); `get_min_capability` of vLLM's quantization methods. Ada added FP8, Blackwell NVFP4 and MXFP8."""

MIN_WEIGHT_ONLY: dict[str, tuple[int, int]] = {
    "bf16": OLDEST,
    "fp8": OLDEST,
    "mxfp8": (8, 0),
    "nvfp4": OLDEST,
}
"""Lowest compute capability on which vLLM unpacks a format to 16 bit before it computes.

FP8: `Fp8Config`, `is_fp8_marlin_supported`; NVFP4: `ModelOptNvFp4Config`, `is_fp4_marlin_supported`; experts:
`MarlinExperts._supports_current_device`; MXFP8: `ModelOptMxFp8Config`. BF16 falls back to FP16
(`_resolve_auto_dtype`). All in vLLM 0.33.0."""


class Level(IntEnum):
    """How a GPU computes a number format: not at all, unpacked to 16 bit, or as it is meant."""

    NONE = 0
    WEIGHT_ONLY = 1
    NATIVE = 2


def kind(gpu: Gpu) -> Kind | None:
    """Return the product with a GPU's name and memory, or None if it is not listed or a slice of one."""
    return None if is_slice(gpu) else _matching(gpu.name, gpu.memory_mib)


@lru_cache(maxsize=256)
def _matching(name: str, memory_mib: int) -> Kind | None:
    named = (entry for entry in KINDS if re.search(rf"\b(?:{entry.pattern})", name))
    return next((entry for entry in named if memory_mib >= SAME_PRODUCT * entry.memory_mib), None)


def by_name(name: str) -> Kind | None:
    """Return the product with this name in the catalog."""
    return next((entry for entry in KINDS if entry.name == name), None)


def capability(gpu: Gpu) -> tuple[int, int]:
    """Return the compute capability as reported, else by product, else Ampere's (8, 0), without FP8 and FP4."""
    if gpu.compute_capability:
        return gpu.compute_capability
    product = kind(gpu)
    return product.capability if product else (8, 0)


def labels(gpu: Gpu) -> frozenset[str]:
    """Return the names for this GPU in the catalog: its kind and similar ones, its generation, `nvidia`, `mig`."""
    return _labels(capability(gpu), kind(gpu)) | ({"mig"} if is_slice(gpu) else set())


def product_labels(product: Kind) -> frozenset[str]:
    """Return the names for all GPUs of a product."""
    return _labels(product.capability, product)


def _labels(able: tuple[int, int], product: Kind | None) -> frozenset[str]:
    generation = EXCEPTIONS.get(able) or GENERATIONS.get(able[0], "")
    kinds = (product.name, *product.also) if product else ()
    return frozenset({"nvidia", generation, *kinds} - {""})


def is_too_old(gpu: Gpu) -> bool:
    """Return whether vLLM's wheels have no code for this GPU."""
    return capability(gpu) < OLDEST


def level(gpu: Gpu, precision: str, checkpoint: str = "") -> Level:
    """Return how a GPU computes a number format; `checkpoint` is the repository of the weights."""
    able = capability(gpu)
    if able >= MIN_CAPABILITY.get(precision, (8, 0)):
        return Level.NATIVE
    least = MIN_WEIGHT_ONLY.get(precision)
    if precision == "fp8" and checkpoint.startswith("nvidia/"):
        least = MODELOPT_FP8
    return Level.WEIGHT_ONLY if least is not None and able >= least else Level.NONE


def short_name(gpu: Gpu) -> str:
    """Return a GPU's name as people say it: "RTX 3090", "H100 80GB"."""
    product = kind(gpu)
    return product.title if product else gpu.name
