"""The order in which checkpoints are tried on a GPU: best for few users first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pi.planning import hardware
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.hardware import Level
from pi.planning.room import Group
from pi.planning.tuning import tuning_of

SIXTEEN_BIT = frozenset({"bf16", "fp32"})

FLOATS = frozenset({"fp8", "mxfp8", "nvfp4", "mxfp4"})
"""Number formats that newer GPUs compute natively, at twice or four times the speed of 16 bit."""

LAST_RESORT = 5

NATIVE_KERNELS = re.compile(r"trtllm|cutedsl|deep_gemm|cutlass", re.IGNORECASE)
"""Kernels that exist only for GPUs with the checkpoint's own number format."""


def ranked(
    spec: ModelSpec, variants: Iterable[Variant], kinds: tuple[Group, ...]
) -> Iterator[tuple[Variant, tuple[Group, ...]]]:
    """Yield the checkpoints, the best first, each with the kinds of GPUs on which it has this rank."""
    ranks: dict[tuple[int, int], tuple[Variant, list[Group]]] = {}
    for place, variant in enumerate(variants):
        for kind in kinds:
            level = level_on(spec, variant, kind)
            if level is not Level.NONE:
                ranks.setdefault((_rank(spec, variant, level), place), (variant, []))[1].append(kind)
    for _, (variant, fitting) in sorted(ranks.items(), key=lambda entry: entry[0]):
        yield variant, tuple(fitting)


def _rank(spec: ModelSpec, variant: Variant, level: Level) -> int:
    """Return 0 for the checkpoint that most people serve on such a GPU, 5 for the last resort.

    Between them: 16-bit weights, the vendor's other ones, the vendor's FP8 computed in 16 bit, those of third parties.
    """
    official = is_official(spec, variant)
    if level is Level.WEIGHT_ONLY and not variant.on:
        return 3 if official and variant.precision == "fp8" else LAST_RESORT
    if variant.precision in SIXTEEN_BIT:
        return 1
    if variant == spec.variants[0] or (variant.precision in FLOATS and official):
        return 0
    return 2 if official else 4


def is_last_resort(spec: ModelSpec, variant: Variant, kinds: Iterable[Group]) -> bool:
    """Return whether all these GPUs compute a checkpoint in 16 bit only, without the vendor's FP8."""
    return all(_rank(spec, variant, level_on(spec, variant, kind)) == LAST_RESORT for kind in kinds)


def is_official(spec: ModelSpec, variant: Variant) -> bool:
    """Return whether a checkpoint is from the model's vendor or from NVIDIA."""
    return variant.id.partition("/")[0].lower() in (spec.id.partition("/")[0].lower(), "nvidia")


def level_on(spec: ModelSpec, variant: Variant, kind: Group) -> Level:
    """Return how GPUs compute a checkpoint; NONE also if its recipe, attention or kernels exclude them."""
    if variant.on and kind.labels.isdisjoint(variant.on):
        return Level.NONE
    if hardware.capability(kind.gpu) < spec.capability:
        return Level.NONE
    level = hardware.level(kind.gpu, variant.precision, variant.id)
    if level is Level.WEIGHT_ONLY and not variant.on:
        words = " ".join(tuning_of(spec, variant, kind.labels).args.words)
        return Level.NONE if NATIVE_KERNELS.search(words) else level
    return level
