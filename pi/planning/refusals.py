"""Errors for models that cannot start on a pod, with the nearest choice that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pi.errors import BusyError, InputError, PiError
from pi.planning import hardware
from pi.planning.amounts import card_gb
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.cuda_memory import card_of
from pi.planning.estimate import memory_sum
from pi.planning.hardware import Level
from pi.planning.placement import LEAST_CONTEXT, Fit, arguments, choose, load_of, reaches_minimum
from pi.planning.ranking import level_on
from pi.planning.room import LEAST_SHARE, SHARE, Group, Slot, gpu_users, groups, idle, slots, without
from pi.planning.serving import serving_of
from pi.planning.smallest_pods import smallest_pods
from pi.planning.splits import split_of
from pi.planning.tuning import tuning_of
from pi.planning.types import PodFacts, Request
from pi.pods.gpus import Gpu, is_silent, lost
from pi.text import count
from pi.vllm import settings
from pi.vllm.corrections import SEQUENCES


def refusal(
    request: Request,
    facts: PodFacts,
    spec: ModelSpec,
    variants: tuple[Variant, ...],
    others: tuple[Variant, ...] = (),
) -> PiError:
    """Return the error for a model that does not fit: BusyError if an idle pod holds it.

    `others` are checkpoints of the model that the user must ask for by their ids.
    """
    kinds = groups(idle(facts))
    if choose(spec, variants, request, kinds, facts.nodes) is not None:

        def fits(facts: PodFacts, gpus: int | None = request.gpus, memory: float | None = request.memory) -> bool:
            changed = replace(request, gpus=gpus, memory=memory)
            return choose(spec, variants, changed, groups(facts), facts.nodes) is not None

        return busy(f"no room for {request.model} now", facts, fits)
    what = f"{variants[0].id} does not fit"
    what += f" on {count(request.gpus, 'GPU')}" if request.gpus else ""
    return InputError(
        "does-not-fit",
        f"{what}: {_shortage(request, facts, spec, variants, kinds)}",
        _nearest(request, facts, spec, variants, kinds, others),
    )


class Fits(Protocol):
    """Return whether a model fits with other --gpus or --memory."""

    def __call__(self, facts: PodFacts, *, gpus: int = ..., memory: float = ...) -> bool: ...


def busy(what: str, facts: PodFacts, fits: Fits) -> BusyError:
    """Return the error for GPUs in use: what holds each one, and what makes room."""
    each = sorted(slots(facts), key=lambda slot: slot.gpu.id)
    holders = "; ".join(_holders(slot, facts) for slot in each)
    free = [slot.gpu.id for slot in each if not slot.busy]
    roomiest = max(each, key=lambda slot: slot.open)
    hints = []
    if free and fits(facts, gpus=len(free)):
        hints.append(f"GPU {', '.join(map(str, free))} {'is' if len(free) == 1 else 'are'} free (--gpus {len(free)})")
    elif roomiest.open > LEAST_SHARE and fits(facts, memory=roomiest.open):
        hints.append(f"GPU {roomiest.gpu.id} has {roomiest.open:.0%} free (--memory {roomiest.open:.0%})")
    names = gpu_users(facts)
    one = next((name for name in names if fits(without(facts, name))), None)
    if one:
        hints.append(f"pi stop {one} makes room")
    elif names and fits(without(facts, *names)):
        hints.append(f"stop more than one of {', '.join(names)} (pi stop NAME)")
    else:
        hints.append("wait until those processes exit")
    return BusyError("gpus-busy", f"{what}: {holders}", ", or ".join(hints))


SLOW = "nvidia-smi -pm 1 on the pod, as root, makes it fast; if it never answers, reboot the pod"
"""What to do about a slow nvidia-smi: without persistence mode, each question loads the driver again."""


def require_gpus(pod: str, before: tuple[Gpu, ...], facts: PodFacts) -> None:
    """Raise BusyError if a pod has lost GPUs since its last setup."""
    if is_silent(facts.unread_gpus):
        raise BusyError("gpus-silent", f"cannot read the GPUs of {pod}: {facts.unread_gpus[0]}", SLOW)
    problems = lost(before, facts.gpus, facts.unread_gpus)
    if problems:
        raise BusyError(
            "gpus-lost",
            f"{pod} now has {count(len(facts.gpus), 'GPU')}, and had {len(before)}: {'; '.join(problems)}",
            f"reboot the pod, or accept the GPUs that it has: pi pods setup {pod}",
        )


def context_too_long(model: str, limit: int) -> InputError:
    return InputError("context-too-long", f"{model} has a context of {limit} tokens", f"use --context {limit}")


def _holders(slot: Slot, facts: PodFacts) -> str:
    gpu = slot.gpu
    others = [process for process in facts.processes if process.gpu == gpu.id and process.deployment is None]
    words = []
    if slot.models:
        share = f"{slot.taken:.0%} held by" if slot.taken < 1 else "held by"
        words.append(f"{share} {', '.join(slot.models)}")
    if others:
        pids = ", ".join(str(process.pid) for process in others)
        used = sum(process.mib for process in others) / 1024
        words.append(f"{used:.1f} GB used by pid {pids} (not pi)")
    if not words:
        in_use = f"{gpu.used_mib / 1024:.1f} of {gpu.memory_mib / 1024:.1f} GB in use"
        words.append(f"{in_use} (not by pi)" if slot.busy else in_use)
    return f"GPU {gpu.id}: {', '.join(words)}"


def _shortage(
    request: Request,
    facts: PodFacts,
    spec: ModelSpec,
    variants: tuple[Variant, ...],
    kinds: tuple[Group, ...],
) -> str:
    """Return the memory sum of the closest try: the smallest checkpoint on the largest number of GPUs."""
    if not kinds:
        return "the pod has no GPU"
    kind = max(kinds, key=lambda kind: kind.memory_mib)
    gpu = kind.gpu
    runnable = [variant for variant in variants if level_on(spec, variant, kind) is not Level.NONE]
    if not runnable:
        return _unsupported(spec, variants, gpu)
    variant = min(runnable, key=lambda variant: variant.weights_gb)
    sizes = [request.gpus] if request.gpus else range(kind.largest, 0, -1)
    split = next((split for n in sizes if (split := split_of(spec, variant, n, facts.nodes))), None)
    if split is None:
        parts = f"{spec.heads} attention heads" if spec.heads else "layers"
        return f"its {parts} cannot be split evenly over {count(sizes[0], 'GPU')}"
    tuning = tuning_of(spec, variant, kind.labels)
    share = request.memory or tuning.share or SHARE
    total_mib = split.gpus * gpu.memory_mib
    weights = f"{card_gb(variant.weights_gb)} GB of {variant.precision} weights"
    pod = f"{total_mib / 1024:.0f} GB of {split.gpus}x {gpu.name}"
    if not reaches_minimum(spec, variant, total_mib, share):
        part = f"{share:.0%} of " if request.memory else ""
        needed = card_gb(variant.minimum_gb)
        return f"{weights} need {needed} GB of GPU memory by their recipe, more than {part}the {pod}"
    if variant.weights_gb * 1e9 > total_mib * 1024**2 * share:
        return f"{weights} do not fit into {share:.0%} of the {pod}"
    card = card_of([gpu])
    memory = memory_sum(
        load_of(spec, variant),
        split,
        card,
        serving_of(arguments(request, tuning.args), card, fixed=SEQUENCES in request.set_args),
        share=share,
        context=spec.context,
        wanted=request.context or min(spec.context or LEAST_CONTEXT, LEAST_CONTEXT),
    )
    blocks = memory.state_blocks
    if memory.needed_gib <= memory.allowed_gib and blocks is not None and blocks < memory.max_num_seqs:
        return f"its KV cache holds the states of {count(blocks, 'request')}, not of {memory.max_num_seqs}"
    return f"{memory.render()}{', too close to be sure' if memory.fits else ''}"


def _unsupported(spec: ModelSpec, variants: tuple[Variant, ...], gpu: Gpu) -> str:
    """Say why a GPU runs none of these checkpoints."""
    has = "{}.{}".format(*hardware.capability(gpu))
    if hardware.capability(gpu) < spec.capability:
        needs = "{}.{}".format(*spec.capability)
        return f"it needs a GPU of compute capability {needs}, {gpu.name} has {has}"
    formats = " or ".join(dict.fromkeys(variant.precision.upper() for variant in variants))
    return f"{gpu.name} does not support {formats}"


def _nearest(
    request: Request,
    facts: PodFacts,
    spec: ModelSpec,
    variants: tuple[Variant, ...],
    kinds: tuple[Group, ...],
    others: tuple[Variant, ...],
) -> str:
    """Return the nearest choice that fits: context, checkpoint, memory or GPUs here, otherwise another pod."""

    def fit(wanted: Request, among: tuple[Variant, ...] = variants) -> Fit | None:
        return None if wanted == request and among == variants else choose(spec, among, wanted, kinds, facts.nodes)

    own = settings.without(request.set_args, SEQUENCES)
    least = min(spec.context or LEAST_CONTEXT, LEAST_CONTEXT)
    tries: list[tuple[str, Callable[[], Fit | None]]] = [
        ("--set max-num-seqs={0.memory.max_num_seqs}", lambda: fit(replace(request, set_args=own))),
        ("--context {0.memory.longest}", lambda: fit(replace(request, context=None))),
        (f"--context {least}", lambda: fit(replace(request, context=request.context or least))),
        ("--variant {0.variant.name}", lambda: fit(request, spec.variants)),
        ("--memory {0.share:.0%}", lambda: fit(replace(request, memory=None))),
        ("--gpus {0.split.gpus}", lambda: fit(replace(request, gpus=None, for_throughput=False))),
    ]
    for text, attempt in tries:
        fitting = attempt()
        if fitting is not None:
            return f"it fits here with {text.format(fitting)}"
    if others and (fitting := fit(request, others)):
        return f"its {fitting.variant.precision} checkpoint fits here: pi start {fitting.variant.id} --name NAME"
    pods = smallest_pods(spec, facts.gpus, facts.prices)
    return f"it fits on {' or '.join(pods)}" if pods else "no single pod with 8 GPUs is large enough"
