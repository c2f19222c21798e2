"""A request, a pod and the catalog as a launch plan: which GPUs, arguments and environment, and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

from pi import hardware, vllm
from pi.catalog import Catalog, Layout, ModelSpec, Tuning, Variant
from pi.errors import BusyError, InputError, PiError
from pi.estimate import (
    GIB,
    MemorySum,
    Split,
    attention_of,
    context_of,
    heads_of,
    memory_sum,
)
from pi.gpus import Gpu
from pi.state import NAME, Deployment

SHARE = 0.9
"""Share of a GPU's memory that a model gets unless the user or its recipe says otherwise."""

SHARED = 0.95
"""What the shares of all models on one GPU may add up to."""

STARTING_MIB = 512
"""What vLLM's CUDA context takes before vLLM looks whether its share is free."""

IDLE = 0.05
"""A GPU with less than this part of its memory in use counts as really free."""

LEAST_CONTEXT, GOOD_CONTEXT = 4096, 32768
"""Tokens below which a plan is refused, and up to which another GPU is worth taking."""

COUNTS = (1, 2, 4, 8, 16)

CPU_PRECISIONS = frozenset({"bf16", "fp32", "int8", "int4", "mxfp4"})
CPU_CONTEXT = 4096
CPU_SEQUENCES = 4
CPU_PROCESSES_GIB = 3.0
"""Resident memory of vLLM's three processes on a CPU, without weights and KV cache (measured on 0.32.0)."""

FITS_ITSELF = (0, 14)
"""First vLLM that takes `--max-model-len auto`: the longest context that the memory holds."""

UNCERTAINTY = 0.1
"""By how much the weights of a model outside the catalog may differ from its files (converted on loading)."""


@dataclass(frozen=True)
class Request:
    """What a user asks for. `memory` is a share of each GPU, 0 to 1; `vllm_args` replace pi's own arguments."""

    model: str
    name: str
    gpus: int | None = None
    memory: float | None = None
    context: int | None = None
    variant: str | None = None
    vllm_args: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PodFacts:
    """What is true of a pod now: its GPUs with `used_mib` as just read, and what runs or starts there.

    `config` and `weights_bytes` describe the requested model where it is not in the catalog and its files
    could be read. With `nodes` pods alike, the GPUs and deployments are those of each.
    """

    gpus: tuple[Gpu, ...]
    taken_ports: frozenset[int] = frozenset()
    deployments: tuple[Deployment, ...] = ()
    vllm_version: str | None = None
    memory_mib: int = 0
    cpus: int = 1
    disk_free_gib: float | None = None
    config: Mapping[str, Any] | None = None
    weights_bytes: int | None = None
    device: str = "cuda"
    nodes: int = 1


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that a start needs to know; `args` follow `vllm serve MODEL`, without names, host and port.

    `context` is in tokens (None: the model's own), an estimate where `--max-model-len auto` is among the
    arguments. `why` holds one sentence for each decision, `warnings` what the user should be told.
    """

    model: str
    name: str
    served_names: tuple[str, ...]
    port: int
    gpus: tuple[int, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    context: int | None = None
    memory_share: float | None = None
    api: str = "chat"
    packages: tuple[str, ...] = ()
    vllm_floor: str | None = None
    memory: MemorySum | None = None
    why: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    variant: str | None = None
    split: Split = field(default_factory=Split)
    nodes: int = 1
    download_gb: float | None = None
    """Size of the weights' files in 10^9 bytes, where it is known."""


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
        busy = bool(self.models) or self.gpu.used_mib > IDLE * self.gpu.memory_mib
        return busy, len(self.models), self.taken, -self.gpu.free_mib, self.gpu.id


@dataclass(frozen=True)
class Fit:
    """A model's checkpoint on some GPUs of a pod, with the sum that shows that it fits."""

    variant: Variant
    slots: tuple[Slot, ...]
    split: Split
    share: float
    tuning: Tuning
    memory: MemorySum
    context: int
    layout: Layout | None = None

    @property
    def comfortable(self) -> bool:
        longest = self.memory.longest
        return longest is None or longest >= min(self.context, GOOD_CONTEXT)


def plan(request: Request, facts: PodFacts, catalog: Catalog) -> LaunchPlan:
    """The plan for a request on a pod.

    Raises InputError for what this pod can never do, with the sum and the nearest thing that fits, and
    BusyError for what it could do if something stopped.
    """
    _check(request, facts)
    if request.vllm_args is not None:
        return _raw_plan(request, facts)
    known = catalog.find(request.model)
    if known is None:
        if request.variant is not None:
            raise InputError(f"{request.model} is not in the catalog, so it has no variants")
        return _unknown_cpu_plan(request, facts) if facts.device == "cpu" else _unknown_plan(request, facts)
    spec, variant = known
    if request.context is not None and request.context > spec.context:
        raise InputError(f"{spec.title} has a context of {spec.context} tokens", f"say --context {spec.context}")
    variants = _asked(request, spec, variant)
    if facts.device == "cpu":
        return _known_cpu_plan(request, facts, spec, variants)
    fit = _choose(spec, variants, request, facts)
    if fit is None:
        raise _refusal(request, facts, spec, variants)
    return _known_plan(request, facts, spec, variants, fit)


def next_port(taken: AbstractSet[int], first: int = 8001) -> int:
    """The lowest port from `first` on that is not taken."""
    return next(port for port in range(first, 65536) if port not in taken)


def too_old(version: str | None, floor: str | None) -> bool:
    """Whether a pod's vLLM is below a model's floor; an unknown version is not."""
    return bool(version and floor and _numbers(version) < _numbers(floor))


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _check(request: Request, facts: PodFacts) -> None:
    if not re.fullmatch(NAME, request.name):
        raise InputError(f"{request.name!r} is no name for a model", "use letters, digits, dot, dash, underscore")
    if not request.model.strip() or request.model.startswith("-") or not request.model.isprintable():
        raise InputError(f"{request.model!r} is no model", "give a Hugging Face id or a path on the pod")
    if any(deployment.name == request.name for deployment in facts.deployments):
        raise BusyError(f"{request.name} already runs", f"pi stop {request.name}, or choose another --name")
    if request.gpus is not None and facts.device == "cpu":
        raise InputError("this pod has no GPU", "leave out --gpus")
    if request.gpus is not None and not 1 <= request.gpus <= len(facts.gpus):
        raise InputError(f"--gpus {request.gpus}: the pod has {_count(len(facts.gpus), 'GPU')}")
    if request.vllm_args is not None:
        bent = [word for word in ("memory", "context", "variant") if getattr(request, word) is not None]
        if bent:
            raise InputError(f"--{bent[0]} and --vllm exclude each other", "with --vllm all arguments are your own")


def _asked(request: Request, spec: ModelSpec, named: Variant) -> tuple[Variant, ...]:
    """Checkpoints that may serve a request, the wanted one first: one alone where the user names it."""
    if request.variant is not None:
        chosen = spec.variant(request.variant)
        if chosen is None:
            raise InputError(
                f"{spec.title} has no variant {request.variant}",
                "it has " + ", ".join(v.name for v in spec.variants),
            )
        return (chosen,)
    return spec.variants if request.model.lower() == spec.id.lower() else (named,)


# ---------------------------------------------------------------------------------------------- what fits


def slots(facts: PodFacts) -> tuple[Slot, ...]:
    """The pod's GPUs with what is left of each, least used first."""
    return tuple(sorted((_slot(gpu, facts.deployments) for gpu in facts.gpus), key=lambda slot: slot.use))


def _slot(gpu: Gpu, deployments: Iterable[Deployment]) -> Slot:
    here = [deployment for deployment in deployments if gpu.id in deployment.gpus]
    taken = sum(1.0 if d.memory_share is None else d.memory_share for d in here)
    free = (gpu.free_mib - STARTING_MIB) / gpu.memory_mib if gpu.memory_mib else 0.0
    return Slot(gpu, tuple(d.name for d in here), round(taken, 4), max(0.0, _down(min(SHARED - taken, free))))


def _down(share: float) -> float:
    """A share rounded down to hundredths, as it is written in the arguments."""
    return int(share * 100 + 1e-6) / 100


def idle(facts: PodFacts) -> PodFacts:
    """The same pod with nothing running on it."""
    return replace(facts, gpus=tuple(replace(gpu, used_mib=0) for gpu in facts.gpus), deployments=())


def _choose(spec: ModelSpec, variants: Iterable[Variant], request: Request, facts: PodFacts) -> Fit | None:
    """The first fit with a good context, else the first at all: wanted variant first, then fewest GPUs."""
    first: Fit | None = None
    for fit in _fits(spec, variants, request, facts):
        if fit.comfortable:
            return fit
        first = first or fit
    return first


def _fits(spec: ModelSpec, variants: Iterable[Variant], request: Request, facts: PodFacts) -> Iterator[Fit]:
    groups = _alike(slots(facts))
    for variant in variants:
        for count, group, labels in _sizes(groups, request, facts.nodes):
            if not _runs_on(variant, group[0].gpu, labels):
                continue
            for chosen in dict.fromkeys((group[:count], _most_open(group, count))):
                fit = _fit(spec, variant, chosen, labels, request, facts.nodes)
                if fit is not None:
                    yield fit
                    break


def _alike(ordered: Iterable[Slot]) -> list[tuple[tuple[Slot, ...], frozenset[str]]]:
    """The GPUs by kind, since a model is never spread over different ones."""
    groups: dict[tuple[str, int], list[Slot]] = {}
    for slot in ordered:
        groups.setdefault((slot.gpu.name, slot.gpu.memory_mib), []).append(slot)
    return [(tuple(group), hardware.labels(group[0].gpu)) for group in groups.values()]


def _sizes(
    groups: list[tuple[tuple[Slot, ...], frozenset[str]]], request: Request, nodes: int
) -> Iterator[tuple[int, tuple[Slot, ...], frozenset[str]]]:
    if not groups:
        return
    largest = max(len(group) for group, _ in groups)
    counts: Iterable[int] = COUNTS if nodes == 1 else (largest,)
    if request.gpus is not None:
        counts = (request.gpus,)
    for count in counts:
        for group, labels in groups:
            if count <= len(group):
                yield count, group, labels


def _most_open(group: tuple[Slot, ...], count: int) -> tuple[Slot, ...]:
    return tuple(sorted(group, key=lambda slot: -slot.open)[:count])


def _runs_on(variant: Variant, gpu: Gpu, labels: frozenset[str]) -> bool:
    """Whether the hardware has the checkpoint's number format, or its recipe names the hardware."""
    return bool(labels.intersection(variant.on)) if variant.on else hardware.serves(gpu, variant.precision)


def _fit(
    spec: ModelSpec,
    variant: Variant,
    chosen: tuple[Slot, ...],
    labels: frozenset[str],
    request: Request,
    nodes: int,
) -> Fit | None:
    """How a checkpoint is served by these GPUs of each node; None where it cannot be split or does not fit."""
    total = len(chosen) * nodes
    layout = next((row for row in variant.layouts if row.gpus == total and labels.intersection(row.on)), None)
    split = _layout_split(layout) if layout else _split(spec, variant, len(chosen), nodes)
    if split is None:
        return None
    tuning = _tuning(spec, variant, labels, layout)
    free = min(slot.open for slot in chosen)
    share = request.memory if request.memory is not None else min(tuning.share or SHARE, free)
    if share > free or share <= 0:
        return None
    memory_mib = chosen[0].gpu.memory_mib
    enough = total * memory_mib * 1024**2 * min(1.0, share / SHARE) >= variant.minimum_gb * 1e9
    if not enough and layout is None:
        return None
    memory = memory_sum(
        variant.weights_gb,
        spec.attention,
        split,
        memory_gib=memory_mib / 1024,
        free_gib=min(slot.gpu.free_mib for slot in chosen) / 1024,
        share=share,
        context=spec.context if tuning.context is None else min(tuning.context, spec.context),
        wanted=request.context,
        number_bytes=_number_bytes(tuning.args),
    )
    least = min(spec.context, LEAST_CONTEXT) if request.context is None else request.context
    if not memory.fits or (memory.longest is not None and memory.longest < least):
        return None
    return Fit(variant, chosen, split, share, tuning, memory, spec.context, layout)


def _layout_split(layout: Layout) -> Split:
    return Split(layout.tensor, layout.pipeline, layout.data, layout.expert)


def _split(spec: ModelSpec, variant: Variant, count: int, nodes: int) -> Split | None:
    """How `count` GPUs of each node share a model by its recipe; None where they cannot."""
    tensor = next(size for size in range(count, 0, -1) if count % size == 0 and _divides(spec, variant, size))
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
    if variant.tensor is not None and size > variant.tensor:
        return False
    if spec.heads is None:
        return size in COUNTS
    kv_heads = spec.attention.kv_heads if spec.attention else 0
    return spec.heads % size == 0 and (not kv_heads or kv_heads % size == 0 or size % kv_heads == 0)


def _tuning(spec: ModelSpec, variant: Variant, labels: frozenset[str], layout: Layout | None) -> Tuning:
    """All that applies on this hardware, from the general to the particular; a later option wins."""
    parts = [spec.tuning, *_on(spec.tunings, labels), variant.tuning, *_on(variant.tunings, labels)]
    parts += [layout.tuning] if layout else []
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    context = share = None
    for part in parts:
        args = _replaced(args, part.args)
        env |= part.env
        context = part.context if part.context is not None else context
        share = part.share if part.share is not None else share
    return Tuning(args, env, context, share)


_PARTICULAR = ("nvidia", "ampere", "ada", "hopper", "blackwell")


def _on(tunings: Mapping[str, Tuning], labels: frozenset[str]) -> list[Tuning]:
    """Tunings of this hardware, generations before kinds."""
    if not tunings:
        return []
    named = [label for label in tunings if label in labels]
    named.sort(key=lambda label: _PARTICULAR.index(label) if label in _PARTICULAR else len(_PARTICULAR))
    return [tunings[label] for label in named]


def _replaced(below: tuple[str, ...], above: tuple[str, ...]) -> tuple[str, ...]:
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


def _number_bytes(args: tuple[str, ...]) -> int:
    """Bytes of a number in the KV cache."""
    if "--kv-cache-dtype" not in args:
        return 2
    return 1 if (vllm.value_of(args, "--kv-cache-dtype") or "").startswith("fp8") else 2


# ------------------------------------------------------------------------------------------- what is done


def _known_plan(
    request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...], fit: Fit
) -> LaunchPlan:
    kind = fit.slots[0].gpu.name
    length = _length(request.context, fit.tuning.context, fit.memory, facts.vllm_version)
    args = (
        *_split_args(fit.split, facts.nodes),
        *("--gpu-memory-utilization", _number(fit.share)),
        *length,
        *_model_args(spec, fit.tuning.args),
    )
    why = [_variant_reason(spec, variants, fit, kind), _count_reason(request, fit, kind, facts.nodes)]
    if fit.layout and fit.layout.note:
        why.append(f"as proved on {fit.layout.gpus}x {kind}: {fit.layout.note}")
    why.append(_share_reason(request, fit))
    why.append(_context_reason(request, spec, fit))
    return _finished(
        LaunchPlan(
            model=fit.variant.id,
            name=request.name,
            served_names=_served(fit.variant.id, request),
            port=_port(facts),
            gpus=tuple(sorted(slot.gpu.id for slot in fit.slots)),
            args=args,
            env=_gpu_env(fit.slots) | dict(fit.tuning.env),
            context=request.context or fit.memory.context or fit.tuning.context,
            memory_share=fit.share,
            memory=fit.memory,
            why=tuple(why),
            variant=fit.variant.name,
            split=fit.split,
            nodes=facts.nodes,
            download_gb=fit.variant.weights_gb,
        ),
        spec,
        fit.variant,
    )


def _finished(plan: LaunchPlan, spec: ModelSpec, variant: Variant) -> LaunchPlan:
    """The plan with what the catalog says of the model wherever it runs."""
    why, warnings = list(plan.why), list(plan.warnings)
    for option, parser in (("tool calls", spec.tools), ("reasoning", spec.reasoning)):
        if parser:
            why.append(f"{option} are read by vLLM's parser {parser}")
    if spec.trust_remote_code:
        warnings.append(f"{plan.model} brings Python code that vLLM runs on the pod (--trust-remote-code)")
    if spec.notes:
        why.append(spec.notes)
    floors = [floor for floor in (variant.floor, spec.floor) if floor]
    return replace(
        plan,
        api=spec.api,
        packages=spec.packages,
        vllm_floor=max(floors, key=_numbers, default=None),
        why=tuple(why),
        warnings=tuple(warnings),
    )


def _served(model: str, request: Request) -> tuple[str, ...]:
    return tuple(dict.fromkeys((model, request.model, request.name)))


def _port(facts: PodFacts) -> int:
    return next_port(facts.taken_ports | {deployment.port for deployment in facts.deployments})


def _gpu_env(chosen: Iterable[Slot]) -> dict[str, str]:
    """Names the GPUs by nvidia-smi's index, which CUDA counts by only when told to."""
    ids = sorted(slot.gpu.id for slot in chosen)
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, ids))}


def _split_args(split: Split, nodes: int = 1) -> tuple[str, ...]:
    args: list[str] = []
    if split.tensor > 1:
        args += ["--tensor-parallel-size", str(split.tensor)]
    if split.pipeline > 1:
        args += ["--pipeline-parallel-size", str(split.pipeline)]
    if split.data > 1:
        args += ["--data-parallel-size", str(split.data)]
        args += ["--data-parallel-size-local", str(split.data // nodes)] if nodes > 1 else []
    elif nodes > 1:
        args += ["--nnodes", str(nodes)]
    if split.expert:
        args.append("--enable-expert-parallel")
    return tuple(args)


def _length(wanted: int | None, cap: int | None, memory: MemorySum, version: str | None) -> tuple[str, ...]:
    """`--max-model-len`: the user's, else the recipe's, else as much as vLLM finds room for."""
    if wanted is not None:
        return ("--max-model-len", str(wanted))
    if cap is not None:
        return ("--max-model-len", str(min(cap, memory.longest or cap)))
    if not too_old(version, ".".join(map(str, FITS_ITSELF))):
        return ("--max-model-len", "auto")
    return ("--max-model-len", str(memory.context)) if memory.context else ()


def _model_args(spec: ModelSpec, tuned: tuple[str, ...]) -> tuple[str, ...]:
    args: list[str] = []
    if spec.tools:
        args += ["--enable-auto-tool-choice", "--tool-call-parser", spec.tools]
    if spec.reasoning:
        args += ["--reasoning-parser", spec.reasoning]
    if spec.trust_remote_code:
        args.append("--trust-remote-code")
    return _replaced(tuple(args), tuned)


def _number(share: float) -> str:
    return f"{share:g}"


def _variant_reason(spec: ModelSpec, variants: tuple[Variant, ...], fit: Fit, kind: str) -> str:
    chosen, wanted = fit.variant, variants[0]
    weights = f"{chosen.precision} weights, {chosen.weights_gb:g} GB"
    if chosen is wanted:
        return f"{chosen.id}: {weights}"
    if not _runs_on(wanted, fit.slots[0].gpu, hardware.labels(fit.slots[0].gpu)):
        return f"{chosen.id} ({weights}): {kind} has no {wanted.precision} arithmetic for {wanted.id}"
    return f"{chosen.id} ({weights}): {wanted.id} asks for {wanted.minimum_gb:g} GB of GPU memory"


def _count_reason(request: Request, fit: Fit, kind: str, nodes: int) -> str:
    count = len(fit.slots)
    ids = ", ".join(str(slot.gpu.id) for slot in sorted(fit.slots, key=lambda slot: slot.gpu.id))
    split = [
        f"{size}-way {word}"
        for size, word in (
            (fit.split.tensor, "tensor"),
            (fit.split.pipeline, "pipeline"),
            (fit.split.data, "data"),
        )
        if size > 1
    ]
    how = f", {' x '.join(split)} parallel" if split else ""
    asked = "as asked" if request.gpus else "the fewest that hold it"
    where = f" on each of {nodes} pods" if nodes > 1 else ""
    known = hardware.kind(fit.slots[0].gpu)
    slow = " over PCIe" if split and known and not known.nvlink else ""
    return f"{_count(count, kind)} (GPU {ids}){where}, {asked}{how}{slow}"


def _share_reason(request: Request, fit: Fit) -> str:
    others = sorted({name for slot in fit.slots for name in slot.models})
    share = f"{fit.share:.0%} of each GPU's memory"
    if request.memory is not None:
        return f"{share}, as asked"
    if others:
        return f"{share}, beside {', '.join(others)}"
    return f"{share}: {'its recipe' if fit.tuning.share == fit.share else 'the rest is for CUDA itself'}"


def _context_reason(request: Request, spec: ModelSpec, fit: Fit) -> str:
    if request.context is not None:
        return f"context of {request.context} tokens, as asked"
    if fit.memory.longest is None:
        return f"context up to {spec.context} tokens: vLLM takes what the memory holds"
    if fit.memory.longest >= spec.context:
        return f"the model's whole context of {spec.context} tokens"
    return f"context of about {fit.memory.longest} of {spec.context} tokens: what the memory holds"


def _count(count: int, thing: str) -> str:
    return f"1 {thing}" if count == 1 else f"{count} {thing}s"


# ------------------------------------------------------------------------------------- what is not possible


def _refusal(request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...]) -> PiError:
    """Why nothing fits: GPUs in use (BusyError), or a model that this pod cannot hold (InputError)."""
    if _choose(spec, variants, request, idle(facts)) is not None:
        return _busy(request, facts)
    what = f"{variants[0].id} does not fit"
    if request.gpus:
        what += f" on {_count(request.gpus, 'GPU')}"
    return InputError(f"{what}: {_shortage(request, facts, spec, variants)}", _nearest(request, facts, spec, variants))


def _busy(request: Request, facts: PodFacts) -> BusyError:
    held = "; ".join(_holding(slot) for slot in sorted(slots(facts), key=lambda slot: slot.gpu.id))
    names = sorted({deployment.name for deployment in facts.deployments if deployment.gpus})
    hint = f"pi stop {names[0]} makes room" if names else "wait until those processes end"
    return BusyError(f"no room for {request.model} now: {held}", hint)


def _holding(slot: Slot) -> str:
    gpu = slot.gpu
    used = f"{gpu.used_mib / 1024:.1f} of {gpu.memory_mib / 1024:.1f} GiB in use"
    if not slot.models:
        return f"GPU {gpu.id}: {used}" + (" (not by pi)" if gpu.used_mib > IDLE * gpu.memory_mib else "")
    share = f"{slot.taken:.0%} held by" if slot.taken < 1 else "held by"
    return f"GPU {gpu.id}: {share} {', '.join(slot.models)}"


def _shortage(request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...]) -> str:
    """The sum of the closest try: the lightest checkpoint that the hardware serves on as many GPUs as may be."""
    groups = _alike(slots(idle(facts)))
    if not groups:
        return "the pod has no GPU"
    group, labels = max(groups, key=lambda entry: sum(slot.gpu.memory_mib for slot in entry[0]))
    gpu = group[0].gpu
    count = request.gpus or len(group)
    served = [variant for variant in variants if _runs_on(variant, gpu, labels)]
    if not served:
        return f"{gpu.name} has no arithmetic for {' or '.join(dict.fromkeys(v.precision for v in variants))}"
    variant = min(served, key=lambda variant: variant.weights_gb)
    layout_split = next(
        (_split(spec, variant, n, facts.nodes) for n in range(count, 0, -1) if _split(spec, variant, n, facts.nodes)),
        None,
    )
    if request.gpus and not _split(spec, variant, count, facts.nodes):
        heads = f"its {spec.heads} attention heads" if spec.heads else "it"
        return f"{heads} cannot be split over {_count(count, 'GPU')}"
    split = layout_split or Split()
    share = request.memory or _tuning(spec, variant, labels, None).share or SHARE
    total_gb = split.gpus * gpu.memory_mib * 1024**2 / 1e9
    if total_gb * min(1.0, share / SHARE) < variant.minimum_gb:
        held = f"{_count(split.gpus, gpu.name)} hold{'s' if split.gpus == 1 else ''} {total_gb:.0f} GB"
        at = f" at {share:.0%}" if request.memory else ""
        return (
            f"{variant.weights_gb:g} GB of {variant.precision} weights need {variant.minimum_gb:g} GB"
            f" of GPU memory, {held}{at}"
        )
    memory = memory_sum(
        variant.weights_gb,
        spec.attention,
        split,
        memory_gib=gpu.memory_mib / 1024,
        free_gib=gpu.memory_mib / 1024,
        share=share,
        context=spec.context,
        wanted=request.context or LEAST_CONTEXT,
        number_bytes=_number_bytes(variant.tuning.args),
    )
    return memory.render()


def _nearest(request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...]) -> str:
    """What does fit: another checkpoint, a shorter context, more of the memory or GPUs here, else another pod."""
    here = idle(facts)
    tries: list[tuple[str, Callable[[], Fit | None]]] = [
        (
            "with --context {0.memory.longest}",
            lambda: _choose(spec, variants, replace(request, context=None), here) if request.context else None,
        ),
        ("as --variant {0.variant.name}", lambda: _choose(spec, spec.variants, request, here)),
        (
            "with --memory {0.share:.0%}",
            lambda: _choose(spec, variants, replace(request, memory=None), here) if request.memory else None,
        ),
        (
            "with --gpus {0.split.gpus}",
            lambda: _choose(spec, variants, replace(request, gpus=None), here) if request.gpus else None,
        ),
    ]
    for text, attempt in tries:
        fit = attempt()
        if fit is not None:
            return f"it fits here {text.format(fit)}"
    pods = pods_for(spec, spec.variants, facts)
    return f"it fits on {' or '.join(pods)}" if pods else "no single pod of 8 GPUs holds it"


def pods_for(spec: ModelSpec, variants: Iterable[Variant], facts: PodFacts) -> tuple[str, ...]:
    """The smallest pods that hold a model: of this pod's own kind with more GPUs, and of any kind."""
    own = {known.name for known in map(hardware.kind, facts.gpus) if known}
    request = Request(spec.id, "x")
    found: list[tuple[bool, int, str]] = []
    for known in hardware.KINDS:
        for count in COUNTS[:4]:
            gpus = tuple(
                Gpu(index, known.title, known.memory_mib, compute_capability=known.capability) for index in range(count)
            )
            if _choose(spec, variants, request, PodFacts(gpus)):
                found.append((known.name not in own, count * known.memory_mib, f"{count}x {known.title}"))
                break
    mine = [pod for other, _, pod in found if not other][:1]
    return tuple(dict.fromkeys(mine + [pod for _, _, pod in sorted(found, key=lambda pod: pod[1])][:2]))


# ---------------------------------------------------------------------------- outside the catalog; on a CPU


def _unknown_plan(request: Request, facts: PodFacts) -> LaunchPlan:
    """One GPU unless the user says more, and a context that vLLM fits itself; what is known is summed up."""
    config = facts.config or {}
    count = request.gpus or 1
    heads = heads_of(config)
    if heads and heads % count:
        raise InputError(
            f"{request.model} has {heads} attention heads, which {count} GPUs cannot share evenly",
            "choose a --gpus that divides them",
        )
    own = context_of(config)
    if request.context and own and request.context > own:
        raise InputError(f"{request.model} has a context of {own} tokens", f"say --context {own}")
    chosen = _least_used(facts, count, request.memory or 0.05)
    free = min(slot.open for slot in chosen)
    share = request.memory or min(SHARE, free)
    split = Split(tensor=count)
    memory = _unknown_sum(facts, split, chosen, share, own, request.context)
    why = [
        f"{request.model} is not in the catalog: {_count(count, 'GPU')}"
        + ("" if request.gpus else " unless you say --gpus"),
        f"{share:.0%} of each GPU's memory" + (", as asked" if request.memory else ""),
    ]
    warnings: list[str] = []
    if memory is not None:
        _refuse_unknown(request, facts, memory, count)
        if not memory.fits:
            warnings.append(f"it may not fit: {memory.render()}")
    return LaunchPlan(
        model=request.model,
        name=request.name,
        served_names=_served(request.model, request),
        port=_port(facts),
        gpus=tuple(sorted(slot.gpu.id for slot in chosen)),
        args=(
            *_split_args(split),
            *("--gpu-memory-utilization", _number(share)),
            *_unknown_length(request, facts, memory),
        ),
        env=_gpu_env(chosen),
        context=request.context or (memory.context if memory else None) or own,
        memory_share=share,
        memory=memory,
        why=tuple(why),
        warnings=tuple(warnings),
        split=split,
        download_gb=facts.weights_bytes / 1e9 if facts.weights_bytes else None,
    )


def _unknown_length(request: Request, facts: PodFacts, memory: MemorySum | None) -> tuple[str, ...]:
    if memory is not None:
        return _length(request.context, None, memory, facts.vllm_version)
    if request.context is not None:
        return ("--max-model-len", str(request.context))
    older = too_old(facts.vllm_version, ".".join(map(str, FITS_ITSELF)))
    return () if older else ("--max-model-len", "auto")


def _unknown_sum(
    facts: PodFacts, split: Split, chosen: tuple[Slot, ...], share: float, own: int | None, wanted: int | None
) -> MemorySum | None:
    if facts.weights_bytes is None:
        return None
    return memory_sum(
        facts.weights_bytes / 1e9,
        attention_of(facts.config or {}),
        split,
        memory_gib=min(slot.gpu.memory_mib for slot in chosen) / 1024,
        free_gib=min(slot.gpu.free_mib for slot in chosen) / 1024,
        share=share,
        context=own,
        wanted=wanted,
        uncertainty=UNCERTAINTY,
    )


def _refuse_unknown(request: Request, facts: PodFacts, memory: MemorySum, count: int) -> None:
    """Raises InputError where even the least that the weights can be does not fit."""
    if memory.weights_gib * (1 - memory.uncertainty) <= memory.allowed_gib:
        return
    needed = -(-int(memory.weights_gib * count * 1.1) // max(1, int(memory.allowed_gib)))
    more = next((n for n in COUNTS if n >= needed and n > count), None)
    if more and more <= len(facts.gpus):
        hint = f"say --gpus {more}"
    else:
        hint = f"it takes about {memory.weights_gib * count * 1.2:.0f} GiB of GPU memory"
    raise InputError(f"{request.model} does not fit on {_count(count, 'GPU')}: {memory.render()}", hint)


def _least_used(facts: PodFacts, count: int, share: float) -> tuple[Slot, ...]:
    """The least used GPUs of one kind with at least `share` left. Raises InputError or BusyError."""
    groups = [group for group, _ in _alike(slots(facts)) if len(group) >= count]
    if not groups:
        raise InputError(f"the pod has no {_count(count, 'GPU')} of one kind" if facts.gpus else "the pod has no GPU")
    for group in groups:
        roomy = tuple(slot for slot in group if slot.open >= share)
        if len(roomy) >= count:
            return roomy[:count]
    held = "; ".join(_holding(slot) for slot in sorted(slots(facts), key=lambda slot: slot.gpu.id))
    names = sorted({deployment.name for deployment in facts.deployments if deployment.gpus})
    raise BusyError(
        f"no {_count(count, 'GPU')} with {share:.0%} of memory left: {held}",
        f"pi stop {names[0]} makes room" if names else "wait until those processes end",
    )


def _raw_plan(request: Request, facts: PodFacts) -> LaunchPlan:
    """The user's own arguments on the GPUs that they ask for; pi adds names, address and the environment."""
    args = request.vllm_args or ()
    vllm.check_raw(args)
    share = _raw_share(args)
    chosen: tuple[Slot, ...] = ()
    if facts.device == "cpu":
        own = vllm.value_of(args, "--kv-cache-memory-bytes") or vllm.value_of(args, "--gpu-memory-utilization")
        env = _cpu_env(facts, None if own else _kv_space_gib(facts, None, CPU_CONTEXT))
        share = None
    else:
        count = request.gpus or _raw_count(args)
        if count > len(facts.gpus):
            raise InputError(f"--vllm asks for {_count(count, 'GPU')}, the pod has {len(facts.gpus)}")
        chosen = _least_used(facts, count, share or SHARE)
        env = _gpu_env(chosen)
    length = vllm.value_of(args, "--max-model-len") or ""
    return LaunchPlan(
        model=request.model,
        name=request.name,
        served_names=_served(request.model, request),
        port=_port(facts),
        gpus=tuple(sorted(slot.gpu.id for slot in chosen)),
        args=args,
        env=env,
        context=int(length) if length.isdecimal() else None,
        memory_share=share,
        why=("--vllm: the arguments are your own",),
    )


def _raw_count(args: tuple[str, ...]) -> int:
    count = 1
    for option in ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"):
        size = vllm.value_of(args, option) or "1"
        count *= int(size) if size.isdecimal() and 1 <= int(size) <= 1024 else 1
    return count


def _raw_share(args: tuple[str, ...]) -> float | None:
    share = vllm.value_of(args, "--gpu-memory-utilization") or ""
    return float(share) if re.fullmatch(r"0?\.\d+|1(\.0*)?", share) else None


def _known_cpu_plan(request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...]) -> LaunchPlan:
    served = [v for v in variants if v.precision in CPU_PRECISIONS and (not v.on or "cpu" in v.on)]
    if not served:
        raise InputError(f"{spec.title} has no weights that a CPU computes with", "it needs a pod with GPUs")
    room_gib = facts.memory_mib / 1024
    context = request.context or min(spec.context, CPU_CONTEXT)
    kv_gib = _kv_space_gib(facts, spec, context)
    held = [v.weights_gb * 1e9 / GIB + kv_gib + CPU_PROCESSES_GIB for v in served]
    variant = next((v for v, gib in zip(served, held, strict=True) if gib <= SHARE * room_gib), None)
    if variant is None:
        raise InputError(
            f"{spec.title} does not fit: weights, KV cache and vLLM itself take {min(held):.1f} GiB,"
            f" the pod has {room_gib:.1f} GiB",
            "choose a smaller model, or a pod with GPUs",
        )
    tuning = _tuning(spec, variant, frozenset({"cpu"}), None)
    plan = _cpu_plan(request, facts, variant.id, context, kv_gib, spec)
    plan = replace(
        plan,
        args=(*plan.args, *_model_args(spec, _replaced(tuning.args, ()))),
        env=dict(plan.env) | {k: v for k, v in tuning.env.items() if k not in plan.env},
        variant=variant.name,
        download_gb=variant.weights_gb,
    )
    return _finished(plan, spec, variant)


def _unknown_cpu_plan(request: Request, facts: PodFacts) -> LaunchPlan:
    own = context_of(facts.config or {})
    if request.context and own and request.context > own:
        raise InputError(f"{request.model} has a context of {own} tokens", f"say --context {own}")
    context = request.context or (min(own, CPU_CONTEXT) if own else None)
    kv_gib = _kv_space_gib(facts, None, context or CPU_CONTEXT)
    plan = _cpu_plan(request, facts, request.model, context, kv_gib, None)
    size_gb = facts.weights_bytes / 1e9 if facts.weights_bytes else None
    return replace(plan, download_gb=size_gb)


def _cpu_plan(
    request: Request, facts: PodFacts, model: str, context: int | None, kv_gib: int, spec: ModelSpec | None
) -> LaunchPlan:
    """A modest server on the pod's CPU: eager, few sequences, its KV cache set in GiB or by --memory."""
    memory = () if request.memory is None else ("--gpu-memory-utilization", _number(request.memory))
    space = None if request.memory is not None else kv_gib
    room = f"{request.memory:.0%} of the CPU's memory, as asked" if space is None else f"{kv_gib} GiB of KV cache"
    return LaunchPlan(
        model=model,
        name=request.name,
        served_names=_served(model, request),
        port=_port(facts),
        gpus=(),
        args=(
            "--enforce-eager",
            *memory,
            *("--max-model-len", str(context) if context else "auto"),
            *("--max-num-seqs", str(CPU_SEQUENCES)),
        ),
        env=_cpu_env(facts, space),
        context=context,
        memory_share=request.memory,
        why=("the pod has no GPU: vLLM computes on its CPU, slowly", room),
    )


def _cpu_env(facts: PodFacts, kv_gib: int | None) -> dict[str, str]:
    """All cores, and the KV cache in GiB where no share of the memory is asked for."""
    cores = "0" if facts.cpus <= 1 else f"0-{facts.cpus - 1}"
    space = {} if kv_gib is None else {"VLLM_CPU_KVCACHE_SPACE": str(kv_gib)}
    return {"VLLM_CPU_OMP_THREADS_BIND": cores} | space


def _kv_space_gib(facts: PodFacts, spec: ModelSpec | None, context: int) -> int:
    """Whole GiB of KV cache: a sixteenth of the memory, 1 to 4, or what one sequence of `context` needs."""
    attention = spec.attention if spec else attention_of(facts.config or {})
    needed = attention.kv_bytes(context) / GIB if attention else 0
    return max(1, min(4, facts.memory_mib // 1024 // 16), -(-int(needed * 1024) // 1024))
