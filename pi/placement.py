"""Where a model fits on a pod: which of its checkpoints, on which GPUs, split how, with what memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from pi import hardware, vllm
from pi.catalog import Layout, ModelSpec, Tuning, Variant
from pi.estimate import MemorySum, Split, memory_sum
from pi.gpus import Gpu
from pi.plans import PodFacts, Request
from pi.pods import Deployment

SHARE = 0.9
"""Share of a GPU's memory that a model gets unless the user or its recipe says otherwise."""

SHARED = 0.95
"""What the shares of all models on one GPU may add up to."""

LEAST_SHARE = 0.05
"""What must be left of a GPU for one more model."""

STARTING_MIB = 512
"""What vLLM's CUDA context takes before vLLM looks whether its share is free."""

IDLE = 0.05
"""A GPU with less than this part of its memory in use counts as really free."""

LEAST_CONTEXT, USEFUL_CONTEXT, GOOD_CONTEXT = 4096, 16384, 32768
"""Tokens below which nothing is started, below which a lighter checkpoint is better, and up to which one more
step of GPUs is worth taking; a model whose own context is shorter needs no more than that."""

COUNTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Slot:
    """A GPU and what is left of it: `taken` is the sum of its models' shares, `open` the share one more may have."""

    gpu: Gpu
    models: tuple[str, ...]
    taken: float
    open: float

    @property
    def use(self) -> tuple[bool, int, float, int, int]:
        """Sorts GPUs by use: really free ones, then fewest models, least share, most free memory, index."""
        return self.busy, len(self.models), self.taken, -self.gpu.free_mib, self.gpu.id

    @property
    def busy(self) -> bool:
        """Whether something holds memory of this GPU, pi's or not."""
        return bool(self.models) or self.gpu.used_mib > IDLE * self.gpu.memory_mib


@dataclass(frozen=True)
class Group:
    """GPUs of one kind: a model is never spread over different ones."""

    by_use: tuple[Slot, ...]
    by_room: tuple[Slot, ...]
    labels: frozenset[str]

    @property
    def gpu(self) -> Gpu:
        return self.by_use[0].gpu

    @property
    def memory_mib(self) -> int:
        return len(self.by_use) * self.gpu.memory_mib

    def choices(self, count: int) -> Iterator[tuple[Slot, ...]]:
        """The `count` least used GPUs; then, where those are others, the ones with the most room."""
        yield self.by_use[:count]
        if self.by_room[:count] != self.by_use[:count]:
            yield self.by_room[:count]


@dataclass(frozen=True)
class Fit:
    """A model's checkpoint on some GPUs of a pod, with the sum that shows that it fits."""

    variant: Variant
    slots: tuple[Slot, ...]
    split: Split
    share: float
    tuning: Tuning
    memory: MemorySum
    labels: frozenset[str]
    layout: Layout | None = None

    def reaches(self, tokens: int, own: int | None) -> bool:
        """Whether `tokens` of context fit, or the model's `own` where that is shorter."""
        longest = self.memory.longest
        return longest is None or longest >= min(tokens, own or tokens)


def slots(facts: PodFacts) -> tuple[Slot, ...]:
    """The pod's GPUs with what is left of each, least used first."""
    return tuple(sorted((_slot(gpu, facts.deployments) for gpu in facts.gpus), key=lambda slot: slot.use))


def _slot(gpu: Gpu, deployments: Iterable[Deployment]) -> Slot:
    here = [deployment for deployment in deployments if gpu.id in deployment.gpus]
    taken = sum(1.0 if d.memory_share is None else d.memory_share for d in here)
    free = (gpu.free_mib - STARTING_MIB) / gpu.memory_mib if gpu.memory_mib else 0.0
    room = max(0.0, min(SHARED - taken, free))
    return Slot(gpu, tuple(d.name for d in here), round(taken, 4), int(room * 100 + 1e-6) / 100)


def groups(facts: PodFacts) -> tuple[Group, ...]:
    """The pod's GPUs by kind, the kind of the least used one first."""
    kinds: dict[tuple[str, int], list[Slot]] = {}
    for slot in slots(facts):
        kinds.setdefault((slot.gpu.name, slot.gpu.memory_mib), []).append(slot)
    return tuple(
        Group(
            tuple(alike),
            tuple(sorted(alike, key=lambda slot: -slot.open)),
            hardware.labels(alike[0].gpu),
        )
        for alike in kinds.values()
    )


def idle(facts: PodFacts) -> PodFacts:
    """The same pod with nothing running on it."""
    return replace(facts, gpus=tuple(replace(gpu, used_mib=0) for gpu in facts.gpus), deployments=())


def without(facts: PodFacts, *names: str) -> PodFacts:
    """The same pod once these deployments have stopped, with the memory free that they held.

    That is what nvidia-smi says of their processes or, where it names none of them, the shares they were given.
    """
    gpus = tuple(replace(gpu, used_mib=max(0, gpu.used_mib - _held_mib(gpu, facts, names))) for gpu in facts.gpus)
    left = tuple(deployment for deployment in facts.deployments if deployment.name not in names)
    return replace(facts, gpus=gpus, deployments=left)


def _held_mib(gpu: Gpu, facts: PodFacts, names: tuple[str, ...]) -> int:
    told = sum(process.mib for process in facts.processes if process.gpu == gpu.id and process.deployment in names)
    here = [d for d in facts.deployments if d.name in names and gpu.id in d.gpus]
    return told or int(sum(1.0 if d.memory_share is None else d.memory_share for d in here) * gpu.memory_mib)


def choose(
    spec: ModelSpec,
    variants: Iterable[Variant],
    request: Request,
    kinds: tuple[Group, ...],
    nodes: int = 1,
) -> Fit | None:
    """The best fit: of the first checkpoint with a useful context, the fewest GPUs with a good one."""
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
    """Ways to serve one checkpoint, fewest GPUs first."""
    able = [kind for kind in kinds if runs_on(variant, kind)]
    for size in _sizes(able, request, nodes):
        for kind in able:
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
    """Whether the hardware has the checkpoint's number format, or its recipe names the hardware."""
    if variant.on:
        return not kind.labels.isdisjoint(variant.on)
    return hardware.serves(kind.gpu, variant.precision)


def _fit(
    spec: ModelSpec,
    variant: Variant,
    chosen: tuple[Slot, ...],
    labels: frozenset[str],
    request: Request,
    nodes: int,
) -> Fit | None:
    """How a checkpoint is served by these GPUs of each node; None where it cannot be split or does not fit."""
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
    memory = memory_sum(
        variant.weights_gb,
        spec.attention,
        split,
        memory_gib=memory_mib / 1024,
        free_gib=min(slot.gpu.free_mib for slot in chosen) / 1024,
        share=share,
        context=tuning.context or spec.context,
        wanted=request.context,
        number_bytes=number_bytes(tuning.args),
    )
    least = request.context or min(spec.context or LEAST_CONTEXT, LEAST_CONTEXT)
    if not memory.fits or (request.context is None and memory.longest is not None and memory.longest < least):
        return None
    return Fit(variant, chosen, split, share, tuning, memory, labels, layout)


def reaches_minimum(variant: Variant, memory_mib: int, share: float) -> bool:
    """Whether this much GPU memory is the recipe's minimum; recipes count on the usual share of it."""
    return memory_mib * 1024**2 * min(1.0, share / SHARE) >= variant.minimum_gb * 1e9


def split_of(spec: ModelSpec, variant: Variant, count: int, nodes: int = 1) -> Split | None:
    """How `count` GPUs of each node share a model by its recipe; None where they cannot."""
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
    if spec.data_parallel or spec.spans == "data":
        return Split(tensor=tensor, data=count * nodes // tensor, expert=spec.experts)
    return None


def _divides(spec: ModelSpec, variant: Variant, size: int) -> bool:
    """Whether a tensor-parallel size divides the heads and the blocks of the weights."""
    if size == 1:
        return True
    if variant.tensor is not None and size > variant.tensor:
        return False
    if spec.heads is None:
        return size in COUNTS
    kv_heads = spec.attention.kv_heads if spec.attention else 0
    return spec.heads % size == 0 and (not kv_heads or kv_heads % size == 0 or size % kv_heads == 0)


def tuning_of(spec: ModelSpec, variant: Variant, labels: frozenset[str], layout: Layout | None = None) -> Tuning:
    """All that applies on this hardware, from the general to the particular; a later option wins."""
    parts = [spec.tuning, *_on(spec.tunings, labels), variant.tuning, *_on(variant.tunings, labels)]
    parts += [layout.tuning] if layout else []
    said = [part for part in parts if part != NOTHING]
    if len(said) < 2:
        return said[0] if said else NOTHING
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    context = share = None
    for part in said:
        args = laid_over(args, part.args)
        env |= part.env
        context = part.context if part.context is not None else context
        share = part.share if part.share is not None else share
    return Tuning(args, env, context, share)


NOTHING = Tuning()
_GENERAL = ("cpu", "nvidia", "ampere", "ada", "hopper", "blackwell", "blackwell_rtx")


def _on(tunings: Mapping[str, Tuning], labels: frozenset[str]) -> list[Tuning]:
    """Tunings of this hardware, generations before kinds."""
    if not tunings:
        return []
    named = [label for label in tunings if label in labels]
    named.sort(key=lambda label: _GENERAL.index(label) if label in _GENERAL else len(_GENERAL))
    return [tunings[label] for label in named]


def laid_over(below: tuple[str, ...], above: tuple[str, ...]) -> tuple[str, ...]:
    """Two argument lists as one, in which an option of the second replaces that of the first."""
    if not below or not above:
        return below or above
    named = {vllm.option(word) for word in above} - {None}
    kept: list[str] = []
    keep = True
    for word in below:
        name = vllm.option(word)
        keep = name not in named if name is not None else keep
        if keep:
            kept.append(word)
    return (*kept, *above)


def number_bytes(args: tuple[str, ...]) -> int:
    """Bytes of a number in the KV cache under these arguments."""
    if "--kv-cache-dtype" not in args:
        return 2
    return 1 if (vllm.value_of(args, "--kv-cache-dtype") or "").startswith("fp8") else 2
