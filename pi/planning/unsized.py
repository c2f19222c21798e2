"""Plans for models of unknown size."""

from __future__ import annotations

from pi.errors import InputError
from pi.planning.catalog import Tuning
from pi.planning.free_gpus import least_used
from pi.planning.plan_args import context_args, gpu_env, memory_args, sequences_args, served_names, split_args
from pi.planning.room import SHARE, gpu_ids
from pi.planning.split import Split
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.text import count


def unsized_plan(request: Request, facts: PodFacts, heads: int | None) -> LaunchPlan:
    """Plan the requested GPUs or one, and a context that vLLM chooses. Raises InputError or BusyError.

    The number of GPUs must divide the attention `heads`, if they are known.
    """
    size = request.gpus or 1
    if heads and heads % size:
        fitting = " or ".join(str(n) for n in range(1, len(facts.gpus) + 1) if heads % n == 0)
        raise InputError(
            "heads-not-divisible",
            f"{size} GPUs cannot share the {heads} attention heads of {request.model} evenly",
            f"use --gpus {fitting}",
        )
    chosen = least_used(facts, size, request.memory or SHARE)
    share = request.memory or min(SHARE, *(slot.open for slot in chosen))
    split = Split(tensor=size, pipeline=facts.nodes)
    return LaunchPlan(
        model=request.model,
        name=request.name,
        served_names=served_names(request.model, request),
        port=facts.free_port,
        gpus=gpu_ids(chosen),
        args=split_args(split, facts.nodes)
        + memory_args(share)
        + context_args(request.context, Tuning(), None, facts.vllm_version)
        + sequences_args(None),
        env=gpu_env(chosen),
        context=request.context,
        memory_share=share,
        why=(
            count(size, "GPU") + (", as requested" if request.gpus else ", unless you set --gpus"),
            f"{share:.0%} of each GPU's memory" + (", as requested" if request.memory else ""),
        ),
        warnings=("its size is unknown, so pi cannot check whether it fits",),
        split=split,
        nodes=facts.nodes,
    )
