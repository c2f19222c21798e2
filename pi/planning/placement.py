"""Find where a model fits on a pod: checkpoint, GPUs, split, memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pi.planning import hardware
from pi.planning.catalog import Layout, ModelSpec, Tuning, Variant
from pi.planning.cuda_memory import card_of
from pi.planning.estimate import Load, MemorySum, loaded_gb, memory_sum
from pi.planning.room import SHARE, Group, Slot
from pi.planning.serving import serving_of
from pi.planning.split import Split
from pi.planning.tuning import tuning_of
from pi.planning.types import Request

LEAST_CONTEXT, USEFUL_CONTEXT, GOOD_CONTEXT = 4096, 16384, 32768
"""In tokens. Below the first, nothing starts; below the second, a smaller checkpoint is better; below the third, more
GPUs are worth it. A model with a shorter context needs only its own."""

COUNTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Fit:
    """A checkpoint on GPUs of a pod, with the memory sum that shows that it fits."""

    variant: Variant
    slots: tuple[Slot, ...]
    split: Split
    share: float
    tuning: Tuning
    memory: MemorySum
    labels: frozenset[str]
    layout: Layout | None = None

    def reaches(self, tokens: int, own: int | None) -> bool:
        """Return whether a context of `tokens` fits, or the model's `own` if it is shorter."""
        longest = self.memory.longest
        return longest is None or longest >= min(tokens, own or tokens)


def choose(
    spec: ModelSpec,
    variants: Iterable[Variant],
    request: Request,
    kinds: tuple[Group, ...],
    nodes: int = 1,
) -> Fit | None:
    """Return the best fit, or None.

    That is the first checkpoint with a useful context, on the fewest GPUs with a good one.
    """
    short: Fit | None = None
    for variant in variants:
        best: Fit | None = None
        for fit in _fits(spec, variant, request, kinds, nodes):
            if best is None or not best.reaches(USEFUL_CONTEXT, spec.context):
                best = fit
            if fit.reaches(GOOD_CONTEXT, spec.context):
                best = fit
                break
        if best is not None and (request.context or best.reaches(USEFUL_CONTEXT, spec.context)):
            return best
        short = short or best
    return short


def _fits(spec: ModelSpec, variant: Variant, request: Request, kinds: tuple[Group, ...], nodes: int) -> Iterator[Fit]:
    """Yield the ways to serve one checkpoint, fewest GPUs first."""
    fitting = [kind for kind in kinds if runs_on(variant, kind)]
    for size in _sizes(fitting, request, nodes):
        for kind in fitting:
            if size > len(kind.by_use):
                continue
            for chosen in kind.choices(size):
                fit = _fit(spec, variant, chosen, kind.labels, request, nodes)
                if fit is not None:
                    yield fit
                    break


def _sizes(kinds: list[Group], request: Request, nodes: int) -> tuple[int, ...]:
    if request.gpus is not None:
        return (request.gpus,)
    return COUNTS if nodes == 1 else tuple({len(kind.by_use): None for kind in kinds})


def runs_on(variant: Variant, kind: Group) -> bool:
    """Return whether GPUs support a checkpoint's format, or its recipe names them."""
    if variant.on:
        return not kind.labels.isdisjoint(variant.on)
    return hardware.supports(kind.gpu, variant.precision)


def _fit(
    spec: ModelSpec,
    variant: Variant,
    chosen: tuple[Slot, ...],
    labels: frozenset[str],
    request: Request,
    nodes: int,
) -> Fit | None:
    """Return the fit of a checkpoint on these GPUs of each node, or None."""
    total, memory_mib = len(chosen) * nodes, chosen[0].gpu.memory_mib
    layout = next((row for row in variant.layouts if row.gpus == total and labels.intersection(row.on)), None)
    if layout is None and total * memory_mib * 1024**2 < variant.minimum_gb * 1e9:
        return None
    split = layout.split if layout else split_of(spec, variant, len(chosen), nodes)
    if split is None:
        return None
    tuning = tuning_of(spec, variant, labels, layout)
    free = min(slot.open for slot in chosen)
    share = request.memory if request.memory is not None else min(tuning.share or SHARE, free)
    if share > free or share <= 0:
        return None
    if layout is None and not reaches_minimum(variant, total * memory_mib, share):
        return None
    card = card_of(slot.gpu for slot in chosen)
    memory = memory_sum(
        load_of(spec, variant),
        split,
        card,
        serving_of(tuning.args, card),
        share=share,
        context=tuning.context or spec.context,
        wanted=request.context,
    )
    least = request.context or min(spec.context or LEAST_CONTEXT, LEAST_CONTEXT)
    if not memory.fits or (request.context is None and memory.longest is not None and memory.longest < least):
        return None
    return Fit(variant, chosen, split, share, tuning, memory, labels, layout)


def load_of(spec: ModelSpec, variant: Variant) -> Load:
    """Return what the GPUs must hold to serve a checkpoint."""
    weights_gb = loaded_gb(variant.weights_gb, variant.precision, spec.network)
    return Load(weights_gb, spec.network, vision_gib=spec.vision_gib)


def reaches_minimum(variant: Variant, memory_mib: int, share: float) -> bool:
    """Return whether this GPU memory reaches the recipe's minimum, which assumes the default share."""
    return memory_mib * 1024**2 * min(1.0, share / SHARE) >= variant.minimum_gb * 1e9


def split_of(spec: ModelSpec, variant: Variant, count: int, nodes: int = 1) -> Split | None:
    """Return how `count` GPUs of each node split a model, or None if they cannot."""
    sizes = (size for size in range(count, 0, -1) if count % size == 0)
    tensor = next(size for size in sizes if _divides(spec, variant, size))
    if nodes == 1:
        if tensor == count:
            return Split(tensor=count)
        if spec.data_parallel:
            return Split(tensor=tensor, data=count // tensor, expert=spec.experts)
        return Split(tensor=tensor, pipeline=count // tensor) if spec.spans == "pipeline" else None
    if spec.spans == "pipeline" and tensor == count:
        return Split(tensor=count, pipeline=nodes)
    if spec.spans in ("pipeline", "tensor") and _divides(spec, variant, count * nodes):
        return Split(tensor=count * nodes)
    return None


def _divides(spec: ModelSpec, variant: Variant, size: int) -> bool:
    """Return whether a tensor-parallel size divides the attention heads and the blocks of the weights."""
    if size == 1:
        return True
    if variant.tensor is not None and size > variant.tensor:
        return False
    if spec.heads is None:
        return size in COUNTS
    kv_heads = {group.kv_heads for group in spec.layers if group.kv_heads}
    return spec.heads % size == 0 and all(heads % size == 0 or size % heads == 0 for heads in kv_heads)
