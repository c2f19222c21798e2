"""Why a model cannot start on a pod, in words, and the nearest thing that can."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Protocol

from pi.errors import BusyError, InputError, PiError
from pi.planning import hardware
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.estimate import memory_sum
from pi.planning.placement import LEAST_CONTEXT, Fit, choose, reaches_minimum, runs_on, split_of
from pi.planning.room import LEAST_SHARE, SHARE, Group, Slot, groups, idle, slots, without
from pi.planning.tuning import number_bytes, tuning_of
from pi.planning.types import PodFacts, Request
from pi.pods.gpus import Gpu, lost
from pi.text import count


def refusal(request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...]) -> PiError:
    """The error for a catalog model that nothing fits now: GPUs in use, or a pod that cannot hold it."""
    kinds = groups(idle(facts))
    if choose(spec, variants, request, kinds, facts.nodes) is not None:

        def fits(facts: PodFacts, gpus: int | None = request.gpus, memory: float | None = request.memory) -> bool:
            bent = replace(request, gpus=gpus, memory=memory)
            return choose(spec, variants, bent, groups(facts), facts.nodes) is not None

        return busy(f"no room for {request.model} now", facts, fits)
    what = f"{variants[0].id} does not fit"
    what += f" on {count(request.gpus, 'GPU')}" if request.gpus else ""
    return InputError(
        "does-not-fit",
        f"{what}: {_shortage(request, facts, spec, variants, kinds)}",
        _nearest(request, facts, spec, variants, kinds),
    )


class Fits(Protocol):
    """Whether a model would start on a pod, as it was asked for but with so many GPUs or that share of each."""

    def __call__(self, facts: PodFacts, *, gpus: int = ..., memory: float = ...) -> bool: ...


def busy(what: str, facts: PodFacts, fits: Fits) -> BusyError:
    """What holds each GPU, and what would make room: fewer GPUs, less of the least used one, something stopped."""
    each = sorted(slots(facts), key=lambda slot: slot.gpu.id)
    held = "; ".join(_holding(slot, facts) for slot in each)
    free = [slot.gpu.id for slot in each if not slot.busy]
    roomiest = max(each, key=lambda slot: slot.open)
    ways = []
    if free and fits(facts, gpus=len(free)):
        ways.append(f"GPU {', '.join(map(str, free))} {'is' if len(free) == 1 else 'are'} free (--gpus {len(free)})")
    elif roomiest.open > LEAST_SHARE and fits(facts, memory=roomiest.open):
        ways.append(f"GPU {roomiest.gpu.id} has {roomiest.open:.0%} left (--memory {roomiest.open:.0%})")
    names = in_use_by(facts)
    alone = next((name for name in names if fits(without(facts, name))), None)
    if alone:
        ways.append(f"pi stop {alone} makes room")
    elif names and fits(without(facts, *names)):
        ways.append(f"stop more than one of {', '.join(names)} (pi stop NAME)")
    else:
        ways.append("wait until those processes end")
    return BusyError("gpus-busy", f"{what}: {held}", ", or ".join(ways))


def require_gpus(pod: str, known: tuple[Gpu, ...], facts: PodFacts) -> None:
    """Raises BusyError where a pod has lost GPUs that its last setup found."""
    gone = lost(known, facts.gpus, facts.unread_gpus)
    if gone:
        raise BusyError(
            "gpus-lost",
            f"{pod} now shows {count(len(facts.gpus), 'GPU')}, and had {len(known)}: {'; '.join(gone)}",
            f"reboot the pod, or go on with the GPUs that it shows: pi pods setup {pod}",
        )


def in_use_by(facts: PodFacts) -> tuple[str, ...]:
    """The deployments that hold GPUs of the pod."""
    return tuple(sorted(deployment.name for deployment in facts.deployments if deployment.gpus))


def _holding(slot: Slot, facts: PodFacts) -> str:
    gpu = slot.gpu
    strange = [process for process in facts.processes if process.gpu == gpu.id and process.deployment is None]
    words = []
    if slot.models:
        share = f"{slot.taken:.0%} held by" if slot.taken < 1 else "held by"
        words.append(f"{share} {', '.join(slot.models)}")
    if strange:
        pids = ", ".join(str(process.pid) for process in strange)
        used = sum(process.mib for process in strange) / 1024
        words.append(f"{used:.1f} GiB used by pid {pids} (not pi)")
    if not words:
        in_use = f"{gpu.used_mib / 1024:.1f} of {gpu.memory_mib / 1024:.1f} GiB in use"
        words.append(f"{in_use} (not by pi)" if slot.busy else in_use)
    return f"GPU {gpu.id}: {', '.join(words)}"


def _shortage(
    request: Request,
    facts: PodFacts,
    spec: ModelSpec,
    variants: tuple[Variant, ...],
    kinds: tuple[Group, ...],
) -> str:
    """The sum of the closest try: the lightest checkpoint that the hardware serves, on as many GPUs as may be."""
    if not kinds:
        return "the pod has no GPU"
    kind = max(kinds, key=lambda kind: kind.memory_mib)
    gpu = kind.gpu
    served = [variant for variant in variants if runs_on(variant, kind)]
    if not served:
        formats = " or ".join(dict.fromkeys(variant.precision for variant in variants))
        return f"{gpu.name} has no arithmetic for {formats}"
    variant = min(served, key=lambda variant: variant.weights_gb)
    sizes = [request.gpus] if request.gpus else range(len(kind.by_use), 0, -1)
    split = next((split for n in sizes if (split := split_of(spec, variant, n, facts.nodes))), None)
    if split is None:
        parts = f"{spec.heads} attention heads" if spec.heads else "layers"
        return f"its {parts} cannot be split evenly over {count(sizes[0], 'GPU')}"
    tuning = tuning_of(spec, variant, kind.labels)
    share = request.memory or tuning.share or SHARE
    if not reaches_minimum(variant, split.gpus * gpu.memory_mib, share):
        held = f"{split.gpus}x {gpu.name} {'has' if split.gpus == 1 else 'have'}"
        part = f", of which --memory leaves {share:.0%}" if request.memory else ""
        return (
            f"{variant.weights_gb:g} GB of {variant.precision} weights need {variant.minimum_gb:g} GB"
            f" of GPU memory, {held} {split.gpus * gpu.memory_mib * 1024**2 / 1e9:.0f} GB{part}"
        )
    return memory_sum(
        variant.weights_gb,
        spec.attention,
        split,
        memory_gib=gpu.memory_mib / 1024,
        free_gib=gpu.memory_mib / 1024,
        share=share,
        context=spec.context,
        wanted=request.context or min(spec.context or LEAST_CONTEXT, LEAST_CONTEXT),
        number_bytes=number_bytes(tuning.args),
    ).render()


def _nearest(
    request: Request,
    facts: PodFacts,
    spec: ModelSpec,
    variants: tuple[Variant, ...],
    kinds: tuple[Group, ...],
) -> str:
    """What does fit: a shorter context, another checkpoint, more of the memory or GPUs here, else another pod."""

    def fit(wanted: Request, among: tuple[Variant, ...] = variants) -> Fit | None:
        return None if wanted == request and among is variants else choose(spec, among, wanted, kinds, facts.nodes)

    tries: list[tuple[str, Callable[[], Fit | None]]] = [
        ("--context {0.memory.longest}", lambda: fit(replace(request, context=None))),
        ("--variant {0.variant.name}", lambda: fit(request, spec.variants)),
        ("--memory {0.share:.0%}", lambda: fit(replace(request, memory=None))),
        ("--gpus {0.split.gpus}", lambda: fit(replace(request, gpus=None))),
    ]
    for text, attempt in tries:
        found = attempt()
        if found is not None:
            return f"it fits here with {text.format(found)}"
    pods = pods_for(spec, spec.variants, facts.gpus)
    return f"it fits on {' or '.join(pods)}" if pods else "no single pod of 8 GPUs holds it"


def pods_for(spec: ModelSpec, variants: Iterable[Variant], like: Iterable[Gpu] = ()) -> tuple[str, ...]:
    """The smallest pods of one to eight GPUs that hold a model: of a kind among `like` first, then of any."""
    own = {known.name for known in map(hardware.kind, like) if known}
    request, variants = Request(spec.id, "x"), tuple(variants)
    found: list[tuple[int, str, str]] = []
    for known, group in _pods():
        fit = choose(spec, variants, request, (group,))
        if fit is not None:
            size = len(fit.slots)
            found.append((size * known.memory_mib, known.name, f"{size}x {known.title}"))
    mine = [pod for _, name, pod in found if name in own][:1]
    return tuple(dict.fromkeys(mine + [pod for _, _, pod in sorted(found)][:2]))


@cache
def _pods() -> tuple[tuple[hardware.Kind, Group], ...]:
    """An idle pod of eight GPUs of every kind."""
    return tuple((known, groups(pod_of(known, 8))[0]) for known in hardware.KINDS)


def pod_of(known: hardware.Kind, size: int) -> PodFacts:
    """An idle pod of so many GPUs of one kind."""
    card = Gpu(0, known.title, known.memory_mib, compute_capability=known.capability)
    return PodFacts(tuple(replace(card, id=index) for index in range(size)))
