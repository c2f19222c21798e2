"""Find where a model fits on a pod: checkpoint, GPUs, split, memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pi.planning import hardware, splits
from pi.planning.catalog import BYTES_PER_PARAMETER, Layout, ModelSpec, Tuning, Variant
from pi.planning.cuda_memory import Card, card_of
from pi.planning.drafts import Draft
from pi.planning.estimate import Load, MemorySum, loaded_gb, memory_sum, replicated_part
from pi.planning.network import with_head
from pi.planning.ranking import is_last_resort, ranked
from pi.planning.room import SHARE, SHARED, Group, Slot
from pi.planning.serving import serving_of
from pi.planning.split import Split
from pi.planning.tuning import for_gpu, tuning_of
from pi.planning.types import Request
from pi.vllm import settings
from pi.vllm.arguments import Arguments
from pi.vllm.corrections import SEQUENCES

LEAST_CONTEXT, USEFUL_CONTEXT, GOOD_CONTEXT = 4096, 16384, 32768
"""In tokens. Below the first, nothing starts; below the second, a smaller checkpoint is better; below the third, more
GPUs are worth it. A model with a shorter context needs only its own."""


BATCH, SMALL_BATCH = "--max-num-batched-tokens", 2048
"""The option for the tokens of a step, and its value on GPUs that are just large enough."""


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


@dataclass(frozen=True)
class _Way:
    """GPUs of one kind on each node, and how they split a checkpoint."""

    kind: Group
    size: int
    split: Split
    layout: Layout | None = None


def choose(
    spec: ModelSpec,
    variants: Iterable[Variant],
    request: Request,
    kinds: tuple[Group, ...],
    nodes: int = 1,
) -> Fit | None:
    """Return the best fit, or None.

    That is the first checkpoint by rank with a useful context, on the fewest GPUs with a good one. For throughput, it
    is on the most GPUs.
    """
    enough = USEFUL_CONTEXT if request.for_throughput else GOOD_CONTEXT
    short: Fit | None = None
    for variant, fitting in ranked(spec, variants, kinds):
        if short and is_last_resort(spec, variant, fitting):
            break
        best: Fit | None = None
        for fit in _fits(spec, variant, request, fitting, nodes):
            if best is not None and best.reaches(USEFUL_CONTEXT, spec.context) and _is_slower(fit):
                break
            if best is None or not best.reaches(USEFUL_CONTEXT, spec.context):
                best = fit
            if fit.reaches(enough, spec.context):
                best = fit
                break
        if best is not None and (request.context or best.reaches(USEFUL_CONTEXT, spec.context)):
            return best
        short = short or best
    return short


def _is_slower(fit: Fit) -> bool:
    """Return whether a token passes one GPU after the other, which is worth it only for a model that needs it."""
    return fit.split.pipeline > 1 and fit.layout is None


def _fits(spec: ModelSpec, variant: Variant, request: Request, kinds: tuple[Group, ...], nodes: int) -> Iterator[Fit]:
    """Yield the fits of one checkpoint, the preferred one first."""
    for way in _ways(spec, variant, request, kinds, nodes):
        for chosen in way.kind.choices(way.size):
            fit = _fit(spec, variant, chosen, way, request, nodes)
            if fit is not None:
                yield fit
                break


def _ways(spec: ModelSpec, variant: Variant, request: Request, kinds: tuple[Group, ...], nodes: int) -> Iterator[_Way]:
    """Yield the ways, fewest GPUs first (most, for throughput), and pipelines at the end."""
    least_mib = variant.weights_gb * 1e9 / 1024**2 / SHARED / nodes
    places = [
        (kind, size)
        for size in _sizes(request, kinds, nodes)
        for kind in kinds
        if 0 < size <= kind.largest and size * kind.gpu.memory_mib >= least_mib
    ]
    mixed = request.for_throughput or nodes > 1
    for kind, size in places:
        if layout := _layout(variant, kind, size * nodes):
            yield _Way(kind, size, layout.split, layout)
        if size == len(kind.by_use) and (spread := splits.replicas(spec, size * nodes, request.for_throughput)):
            yield _Way(kind, size, spread)
        split = splits.split_of(spec, variant, size, nodes) if mixed else splits.one_stage(spec, variant, size)
        if split:
            yield _Way(kind, size, split)
    for kind, size in () if mixed else places:
        piped = splits.pipeline(spec, variant, size)
        if piped and (request.gpus is not None or piped.pipeline <= splits.MOST_STAGES):
            yield _Way(kind, size, piped)


def _sizes(request: Request, kinds: tuple[Group, ...], nodes: int) -> Iterable[int]:
    if request.gpus is not None:
        return (request.gpus,)
    if nodes > 1:
        return tuple({kind.largest: None for kind in kinds})
    if request.for_throughput:
        return range(max((kind.idle for kind in kinds), default=0) or 1, 0, -1)
    return range(1, max((kind.largest for kind in kinds), default=0) + 1)


def _layout(variant: Variant, kind: Group, gpus: int) -> Layout | None:
    return next((row for row in variant.layouts if row.gpus == gpus and kind.labels.intersection(row.on)), None)


def _fit(
    spec: ModelSpec, variant: Variant, chosen: tuple[Slot, ...], way: _Way, request: Request, nodes: int
) -> Fit | None:
    """Return the fit of a checkpoint on these GPUs of each node, or None."""
    total, memory_mib = len(chosen) * nodes, chosen[0].gpu.memory_mib
    labels, layout, split = way.kind.labels, way.layout, way.split
    tuning = for_gpu(tuning_of(spec, variant, labels, layout), hardware.capability(chosen[0].gpu), spec)
    free = min(slot.open for slot in chosen)
    share = request.memory if request.memory is not None else min(tuning.share or SHARE, free)
    if share > free or share <= 0:
        return None
    if layout is None and not reaches_minimum(spec, variant, total * memory_mib, share):
        return None

    def fit_of(tuning: Tuning) -> Fit | None:
        memory = _memory(spec, variant, way, tuning, request, card=card_of(s.gpu for s in chosen), share=share)
        return (
            Fit(variant, chosen, split, share, tuning, memory, labels, layout)
            if _starts(memory, spec, request)
            else None
        )

    fit = fit_of(tuning)
    if _keeps_batches(spec, tuning) and not (fit and fit.reaches(GOOD_CONTEXT, spec.context)):
        fit = fit_of(replace(tuning, args=tuning.args.set(BATCH, SMALL_BATCH))) or fit
    return fit


def _keeps_batches(spec: ModelSpec, tuning: Tuning) -> bool:
    """Return whether a smaller batch leaves more context: layers with a window keep the batches in flight, too."""
    return BATCH not in tuning.args and any(group.cache == "window" for group in spec.layers)


def _memory(
    spec: ModelSpec, variant: Variant, way: _Way, tuning: Tuning, request: Request, *, card: Card, share: float
) -> MemorySum:
    draft = variant.drafting(request.draft, way.kind.labels)
    args = arguments(request, draft.args_on(way.kind.labels).over(tuning.args) if draft else tuning.args)
    memory = memory_sum(
        load_of(spec, variant, draft),
        way.split,
        card,
        serving_of(args, card, fixed=SEQUENCES in request.set_args),
        share=share,
        context=tuning.context or spec.context,
        wanted=request.context,
    )
    return memory.sure() if tuning.context and request.context is None else memory


def _starts(memory: MemorySum, spec: ModelSpec, request: Request) -> bool:
    """Return whether a model fits, with the user's context, or else with one of a useful size, and surely with some."""
    least = request.context or min(spec.context or LEAST_CONTEXT, LEAST_CONTEXT)
    if request.context is not None or memory.longest is None:
        return memory.fits
    return memory.fits and memory.longest >= least and memory.certain(1) > 0


def arguments(request: Request, args: Arguments) -> Arguments:
    """Return the recipe's arguments, with the user's over them."""
    args = request.adapter_args.over(args) if request.adapter_args.items else args
    args = settings.laid_over(request.set_args, args) if request.set_args.items else args
    return args.set("--language-model-only") if request.text_only else args


def load_of(spec: ModelSpec, variant: Variant, draft: Draft | None = None) -> Load:
    """Return what the GPUs must hold to serve a checkpoint, and what drafts its tokens."""
    weights_gb = loaded_gb(variant.weights_gb, variant.precision, spec.network)
    replicated = replicated_part(variant.weights_gb, variant.precision, spec.network)
    parameters_b = spec.parameters_b or variant.weights_gb / BYTES_PER_PARAMETER.get(variant.precision or "bf16", 2.0)
    return Load(
        weights_gb,
        with_head(spec.network) if draft and draft.repository is None else spec.network,
        draft.extra_gb if draft else 0.0,
        spec.vision_gib,
        replicated=replicated,
        parameters_b=parameters_b,
    )


def reaches_minimum(spec: ModelSpec, variant: Variant, memory_mib: int, share: float) -> bool:
    """Return whether the memory sum decides, or else this GPU memory reaches the recipe's minimum.

    The sum decides if the size of the KV cache is known. The recipe assumes the default share.
    """
    return bool(spec.layers) or memory_mib * 1024**2 * min(1.0, share / SHARE) >= variant.minimum_gb * 1e9
