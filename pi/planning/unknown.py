"""Plans for models outside the catalog."""

from __future__ import annotations

from pi.errors import InputError
from pi.planning.catalog import Tuning
from pi.planning.estimate import MemorySum, Split, attention_of, context_of, heads_of, memory_sum
from pi.planning.placement import COUNTS
from pi.planning.refusals import busy
from pi.planning.room import LEAST_SHARE, SHARE, Slot, groups
from pi.planning.serving import gpu_env, gpu_ids, length_args, port_for, split_args
from pi.planning.types import LaunchPlan, PodFacts, Request, served_names, share_text
from pi.text import count

UNCERTAINTY = 0.1
"""By how much the weights of a model outside the catalog may differ from its files (converted on loading)."""


def unknown_plan(request: Request, facts: PodFacts) -> LaunchPlan:
    """One GPU unless the user says more, and a context that vLLM fits itself; what is known is summed up."""
    own, size = context_of(facts.config or {}), request.gpus or 1
    _check_unknown(request, facts, own, size)
    least = SHARE if facts.weights_bytes is None else LEAST_SHARE  # of one that may have any size, nothing less helps
    chosen = least_used(facts, size, request.memory or least)
    share = request.memory or min(SHARE, *(slot.open for slot in chosen))
    split = Split(tensor=size)
    memory = _unknown_sum(request, facts, split, chosen, share, own)
    if memory is not None and memory.weights_gib * (1 - UNCERTAINTY) > memory.allowed_gib:
        raise InputError("does-not-fit", f"{request.model} does not fit: {memory.render()}", _more(facts, memory, size))
    return LaunchPlan(
        model=request.model,
        name=request.name,
        served_names=served_names(request.model, request),
        port=port_for(facts),
        gpus=gpu_ids(chosen),
        args=(
            *split_args(split),
            *("--gpu-memory-utilization", share_text(share)),
            *length_args(request.context, Tuning(), memory, facts.vllm_version),
        ),
        env=gpu_env(chosen),
        context=request.context or (memory.context if memory else None) or own,
        memory_share=share,
        memory=memory,
        why=(
            f"{request.model} is not in the catalog: {count(size, 'GPU')}, "
            + ("as asked" if request.gpus else "unless you say --gpus"),
            f"{share:.0%} of each GPU's memory" + (", as asked" if request.memory else ""),
        ),
        warnings=_doubts(memory),
        split=split,
        download_gb=facts.weights_bytes / 1e9 if facts.weights_bytes else None,
    )


def _doubts(memory: MemorySum | None) -> tuple[str, ...]:
    if memory is None:
        return ("how large it is could not be found out, so whether it fits is not known",)
    return () if memory.fits else (f"it may not fit: {memory.render()}",)


def _check_unknown(request: Request, facts: PodFacts, own: int | None, size: int) -> None:
    heads = heads_of(facts.config or {})
    if heads and heads % size:
        fits = ", ".join(str(n) for n in range(1, len(facts.gpus) + 1) if heads % n == 0)
        raise InputError(
            "heads-not-divisible",
            f"{size} GPUs cannot share the {heads} attention heads of {request.model} evenly",
            f"say --gpus {fits}",
        )
    if request.context and own and request.context > own:
        raise InputError("context-too-long", f"{request.model} has a context of {own} tokens", f"say --context {own}")


def _unknown_sum(
    request: Request, facts: PodFacts, split: Split, chosen: tuple[Slot, ...], share: float, own: int | None
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
        wanted=request.context,
        uncertainty=UNCERTAINTY,
    )


def _more(facts: PodFacts, memory: MemorySum, size: int) -> str:
    needed = memory.weights_gib * size * 1.2
    enough = next((n for n in COUNTS if n > size and n * memory.allowed_gib >= needed), None)
    if enough and enough <= len(facts.gpus):
        return f"say --gpus {enough}"
    return f"it takes about {needed:.0f} GiB of GPU memory"


def least_used(facts: PodFacts, size: int, share: float) -> tuple[Slot, ...]:
    """The least used GPUs of one kind with at least `share` left. Raises InputError or BusyError."""
    if not any(len(group.by_use) >= size for group in groups(facts)):
        raise InputError(
            "too-many-gpus", f"the pod has no {count(size, 'GPU')} of one kind" if facts.gpus else "the pod has no GPU"
        )
    found = _roomy(facts, size, share)
    if found:
        return found

    def fits(facts: PodFacts, gpus: int = size, memory: float = share) -> bool:
        return bool(_roomy(facts, gpus, memory))

    what = "no GPU has" if size == 1 else f"no {size} GPUs of one kind have"
    raise busy(f"{what} {share:.0%} of {'its' if size == 1 else 'their'} memory left", facts, fits)


def _roomy(facts: PodFacts, size: int, share: float) -> tuple[Slot, ...]:
    for group in groups(facts):
        roomy = tuple(slot for slot in group.by_use if slot.open >= share)
        if len(roomy) >= size:
            return roomy[:size]
    return ()
