"""Plans for models outside the catalog."""

from __future__ import annotations

from pi.errors import InputError
from pi.planning.catalog import Tuning
from pi.planning.config_reader import read_network
from pi.planning.cuda_memory import card_of
from pi.planning.estimate import Load, MemorySum, loaded_gb, memory_sum
from pi.planning.free_gpus import least_used
from pi.planning.network import Network, usual_network
from pi.planning.plan_args import context_args, gpu_env, memory_args, sequences_args, served_names, split_args
from pi.planning.refusals import context_too_long
from pi.planning.room import LEAST_SHARE, SHARE, Slot, gpu_ids
from pi.planning.serving import serving_of
from pi.planning.split import Split
from pi.planning.splits import COUNTS
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.text import count
from pi.vllm.arguments import Arguments

UNCERTAINTY = 0.1
"""Weights in memory may differ from the files by this part, because vLLM converts them on loading."""


def unknown_plan(request: Request, facts: PodFacts) -> LaunchPlan:
    """Plan the requested GPUs or one, and a context that vLLM chooses. Raises InputError or BusyError."""
    network = read_network(facts.config or {})
    own, size = network.context if network else None, request.gpus or 1
    _check_limits(request, facts, network, size)
    least = SHARE if facts.weights_bytes is None else LEAST_SHARE  # a model of unknown size may need the whole share
    chosen = least_used(facts, size, request.memory or least)
    share = request.memory or min(SHARE, *(slot.open for slot in chosen))
    split = Split(tensor=size)
    memory = _memory_sum(request, facts, network, split, chosen, share)
    if memory is not None and memory.weights_gib * (1 - UNCERTAINTY) > memory.allowed_gib:
        raise InputError("does-not-fit", f"{request.model} does not fit: {memory.render()}", _more(facts, memory, size))
    return LaunchPlan(
        model=request.model,
        name=request.name,
        served_names=served_names(request.model, request),
        port=facts.free_port,
        gpus=gpu_ids(chosen),
        args=split_args(split)
        + memory_args(share)
        + context_args(request.context, Tuning(), memory, facts.vllm_version)
        + sequences_args(memory),
        env=gpu_env(chosen),
        context=request.context or (memory.context if memory else None) or own,
        memory_share=share,
        memory=memory,
        why=(
            f"{request.model} is not in the catalog: {count(size, 'GPU')}, "
            + ("as requested" if request.gpus else "unless you set --gpus"),
            f"{share:.0%} of each GPU's memory" + (", as requested" if request.memory else ""),
        ),
        warnings=_doubts(memory),
        split=split,
        download_gb=facts.weights_bytes / 1e9 if facts.weights_bytes else None,
    )


def _doubts(memory: MemorySum | None) -> tuple[str, ...]:
    if memory is None:
        return ("its size is unknown, so pi cannot check whether it fits",)
    return () if memory.fits else (f"it may not fit: {memory.render()}",)


def _check_limits(request: Request, facts: PodFacts, network: Network | None, size: int) -> None:
    heads, own = (network.heads, network.context) if network else (None, None)
    if heads and heads % size:
        fitting = " or ".join(str(n) for n in range(1, len(facts.gpus) + 1) if heads % n == 0)
        raise InputError(
            "heads-not-divisible",
            f"{size} GPUs cannot share the {heads} attention heads of {request.model} evenly",
            f"use --gpus {fitting}",
        )
    if request.context and own and request.context > own:
        raise context_too_long(request.model, own)


def _memory_sum(
    request: Request, facts: PodFacts, network: Network | None, split: Split, chosen: tuple[Slot, ...], share: float
) -> MemorySum | None:
    if facts.weights_bytes is None:
        return None
    network = network or usual_network(facts.weights_bytes / 1e9)
    weights_gb = loaded_gb(facts.weights_bytes / 1e9, network.precision, network)
    card = card_of(slot.gpu for slot in chosen)
    return memory_sum(
        Load(weights_gb, network, uncertainty=UNCERTAINTY),
        split,
        card,
        serving_of(Arguments(), card),
        share=share,
        context=network.context,
        wanted=request.context,
    )


def _more(facts: PodFacts, memory: MemorySum, size: int) -> str:
    needed = memory.weights_gib * size * 1.2
    enough = next((n for n in COUNTS if n > size and n * memory.allowed_gib >= needed), None)
    if enough and enough <= len(facts.gpus):
        return f"use --gpus {enough}"
    return f"it needs about {needed:.0f} GB of GPU memory"
