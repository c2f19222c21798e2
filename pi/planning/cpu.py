"""Plans for a pod without a GPU: vLLM's CPU build, modest and slow, for the small models that it can hold."""

from __future__ import annotations

from dataclasses import replace

from pi.errors import InputError
from pi.planning.catalog import ModelSpec, Tuning, Variant
from pi.planning.estimate import GIB, attention_of, context_of
from pi.planning.room import SHARE
from pi.planning.tuning import tuning_of
from pi.planning.types import LaunchPlan, PodFacts, Request, served_names, share_text

PRECISIONS = frozenset({"bf16", "fp32", "int8", "int4", "mxfp4"})

CONTEXT = 4096

SEQUENCES = 4

PROCESSES_GIB = 3.0
"""Resident memory of vLLM's three processes on a CPU, without weights and KV cache (measured on 0.32.0)."""

LABELS = frozenset({"cpu", "xeon6"})


def known(
    request: Request, facts: PodFacts, spec: ModelSpec, variants: tuple[Variant, ...], port: int
) -> tuple[LaunchPlan, Variant, Tuning]:
    """The plan for a model of the catalog, its checkpoint and what its recipe says of CPUs. Raises InputError."""
    served = [v for v in variants if v.precision in PRECISIONS and (not v.on or LABELS.intersection(v.on))]
    if not served:
        raise InputError(
            "no-cpu-weights", f"{spec.title} has no weights that a CPU computes with", "it needs a pod with GPUs"
        )
    context = request.context or min(spec.context or CONTEXT, CONTEXT)
    kv_gib = kv_space_gib(facts, spec, context)
    room_gib = SHARE * facts.memory_mib / 1024
    fits = [v for v in served if _needed_gib(v, kv_gib) <= room_gib]
    if not fits:
        least = min(_needed_gib(v, kv_gib) for v in served)
        raise _too_large(spec.title, kv_gib, least, room_gib)
    plan = _plan(request, facts, fits[0].id, context, kv_gib, port)
    plan = replace(plan, variant=fits[0].name, download_gb=fits[0].weights_gb)
    return plan, fits[0], tuning_of(spec, fits[0], LABELS)


def unknown(request: Request, facts: PodFacts, port: int) -> LaunchPlan:
    """The plan for a model outside the catalog: its whole context up to a modest one. Raises InputError."""
    own = context_of(facts.config or {})
    if request.context and own and request.context > own:
        raise InputError("context-too-long", f"{request.model} has a context of {own} tokens", f"say --context {own}")
    context = request.context or (min(own, CONTEXT) if own else None)
    kv_gib = kv_space_gib(facts, None, context or CONTEXT)
    plan = _plan(request, facts, request.model, context, kv_gib, port)
    if facts.weights_bytes is None:
        return plan
    needed_gib, room_gib = facts.weights_bytes / GIB + kv_gib + PROCESSES_GIB, SHARE * facts.memory_mib / 1024
    if needed_gib > room_gib:
        raise _too_large(request.model, kv_gib, needed_gib, room_gib)
    return replace(plan, download_gb=facts.weights_bytes / 1e9)


def _too_large(what: str, kv_gib: int, needed_gib: float, room_gib: float) -> InputError:
    return InputError(
        "does-not-fit",
        f"{what} does not fit: weights, {kv_gib} GiB of KV cache and vLLM itself take {needed_gib:.1f} GiB,"
        f" the pod has {room_gib:.1f} GiB",
        "choose a smaller model, or a pod with GPUs",
    )


def environment(facts: PodFacts, kv_gib: int | None) -> dict[str, str]:
    """All cores, and the KV cache in GiB where no share of the memory is asked for."""
    cores = "0" if facts.cpus <= 1 else f"0-{facts.cpus - 1}"
    space = {} if kv_gib is None else {"VLLM_CPU_KVCACHE_SPACE": str(kv_gib)}
    return {"VLLM_CPU_OMP_THREADS_BIND": cores} | space


def kv_space_gib(facts: PodFacts, spec: ModelSpec | None = None, context: int = CONTEXT) -> int:
    """Whole GiB of KV cache: a sixteenth of the memory, 1 to 4, or what one sequence of `context` needs."""
    attention = spec.attention if spec else attention_of(facts.config or {})
    needed = -(-attention.kv_bytes(context) // GIB) if attention else 0
    return max(1, min(4, facts.memory_mib // 1024 // 16), needed)


def _needed_gib(variant: Variant, kv_gib: int) -> float:
    return variant.weights_gb * 1e9 / GIB + kv_gib + PROCESSES_GIB


def _plan(request: Request, facts: PodFacts, model: str, context: int | None, kv_gib: int, port: int) -> LaunchPlan:
    memory: tuple[str, ...] = ()
    room = f"{kv_gib} GiB of memory for the KV cache"
    if request.memory is not None:
        memory = ("--gpu-memory-utilization", share_text(request.memory))
        room = f"{request.memory:.0%} of the CPU's memory, as asked"
    return LaunchPlan(
        model=model,
        name=request.name,
        served_names=served_names(model, request),
        port=port,
        gpus=(),
        args=(
            "--enforce-eager",
            *memory,
            *("--max-model-len", str(context) if context else "auto"),
            *("--max-num-seqs", str(SEQUENCES)),
        ),
        env=environment(facts, kv_gib if request.memory is None else None),
        context=context,
        memory_share=request.memory,
        why=("the pod has no GPU: vLLM computes on its CPU, slowly", room),
    )
