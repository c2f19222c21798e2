"""Plans for pods without a GPU: vLLM's CPU build serves small models slowly."""

from __future__ import annotations

from dataclasses import replace

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning.cache import CacheOptions, cache_of
from pi.planning.catalog import ModelSpec, Tuning, Variant
from pi.planning.config_reader import read_network
from pi.planning.network import Network
from pi.planning.overhead import GIB
from pi.planning.plan_args import memory_args, served_names, split_args
from pi.planning.refusals import context_too_long
from pi.planning.split import Split
from pi.planning.tuning import tuning_of
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.vllm.arguments import Arguments

PRECISIONS = frozenset({"bf16", "fp32", "int8", "int4", "mxfp4"})

SHARE = 0.9
"""Part of the pod's memory that a model may take."""

CONTEXT = 4096

SEQUENCES = 4

STEP_TOKENS = 2048
"""Tokens of a step on a CPU (`EngineArgs.get_batch_defaults`, 0.33.0)."""

PROCESSES_GIB = 3.0
"""Resident memory of vLLM's three processes on a CPU, without weights and KV cache (measured on 0.32.0)."""

LABELS = frozenset({"cpu", "xeon6"})


def catalog_plan(
    request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...]
) -> tuple[LaunchPlan, Variant, Tuning]:
    """Plan a catalog model; return the plan, checkpoint and tuning. Raises InputError if it does not fit."""
    runnable = [v for v in variants if v.precision in PRECISIONS and (not v.on or LABELS.intersection(v.on))]
    if not runnable:
        raise InputError("no-cpu-weights", f"no checkpoint of {spec.title} runs on a CPU", "use a pod with GPUs")
    context = request.context or min(spec.context or CONTEXT, CONTEXT)
    kv_gib = kv_space_gib(facts, spec.network, context)
    room_gib = SHARE * facts.memory_mib / 1024
    fitting = [v for v in runnable if _needed_gib(v, kv_gib) <= room_gib]
    if not fitting:
        least = min(_needed_gib(v, kv_gib) for v in runnable)
        raise _too_large(spec.title, kv_gib, least, room_gib)
    variant = fitting[0]
    plan = _plan(request, facts, variant.id, context, kv_gib)
    plan = replace(plan, variant=variant.name, download_gb=variant.weights_gb)
    return plan, variant, tuning_of(spec, variant, LABELS)


def unknown_plan(request: Request, facts: PodFacts) -> LaunchPlan:
    """Plan a model outside the catalog, with a limited context. Raises InputError if it does not fit."""
    network = read_network(facts.config or {})
    own = network.context if network else None
    if request.context and own and request.context > own:
        raise context_too_long(request.model, own)
    context = request.context or (min(own, CONTEXT) if own else None)
    kv_gib = kv_space_gib(facts, network, context or CONTEXT)
    plan = _plan(request, facts, request.model, context, kv_gib)
    if facts.weights_bytes is None:
        return plan
    needed_gib, room_gib = facts.weights_bytes / GIB + kv_gib + PROCESSES_GIB, SHARE * facts.memory_mib / 1024
    if needed_gib > room_gib:
        raise _too_large(request.model, kv_gib, needed_gib, room_gib)
    return replace(plan, download_gb=facts.weights_bytes / 1e9)


def _too_large(what: str, kv_gib: int, needed_gib: float, room_gib: float) -> InputError:
    return InputError(
        "does-not-fit",
        f"{what} does not fit: weights, {kv_gib} GB of KV cache and vLLM itself take {needed_gib:.1f} GB,"
        f" the pod has {room_gib:.1f} GB",
        "choose a smaller model, or a pod with GPUs",
    )


def environment(facts: PodFacts, kv_gib: int | None) -> dict[str, str]:
    """Return variables for all cores and, if given, the GiB of the KV cache."""
    cores = "0" if facts.cpus <= 1 else f"0-{facts.cpus - 1}"
    space = {} if kv_gib is None else {"VLLM_CPU_KVCACHE_SPACE": str(kv_gib)}
    return {"VLLM_CPU_OMP_THREADS_BIND": cores} | space


def kv_space_gib(facts: PodFacts, network: Network | None = None, context: int = CONTEXT) -> int:
    """Return the KV cache in whole GiB.

    It is 1/16 of the memory, between 1 and 4, or more if one sequence of `context` needs it.
    """
    cache = cache_of(network.groups, 1, 1, CacheOptions(in_flight=STEP_TOKENS)) if network else None
    needed = -(-cache.bytes_of(context) // GIB) if cache else 0
    return max(1, min(4, facts.memory_mib // 1024 // 16), needed)


def _needed_gib(variant: Variant, kv_gib: int) -> float:
    return variant.weights_gb * 1e9 / GIB + kv_gib + PROCESSES_GIB


def _plan(request: Request, facts: PodFacts, model: ModelId, context: int | None, kv_gib: int) -> LaunchPlan:
    args = Arguments().set("--enforce-eager")
    room = f"{kv_gib} GB of memory for the KV cache"
    if request.memory is not None:
        args += memory_args(request.memory)
        room = f"{request.memory:.0%} of the CPU's memory, as requested"
    split = Split(tensor=facts.nodes)
    alone = "the pod has no GPU: vLLM runs slowly on its CPU"
    return LaunchPlan(
        model=model,
        name=request.name,
        served_names=served_names(model, request),
        port=facts.free_port,
        gpus=(),
        args=(args + split_args(split, facts.nodes))
        .set("--max-model-len", context or "auto")
        .set("--max-num-seqs", SEQUENCES),
        env=environment(facts, kv_gib if request.memory is None else None),
        context=context,
        memory_share=request.memory,
        why=(
            alone if facts.nodes == 1 else f"no pod has a GPU: {facts.nodes}-way tensor parallel over their CPUs",
            room,
        ),
        split=split,
        nodes=facts.nodes,
    )
