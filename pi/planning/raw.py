"""Plans whose arguments are all the user's own (`--vllm`)."""

from __future__ import annotations

import re
from dataclasses import replace

from pi.errors import InputError
from pi.planning import cpu, venvs
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.room import SHARE, SHARED
from pi.planning.serving import gpu_env, gpu_ids, on_cpu, on_vllm, port_for
from pi.planning.types import LaunchPlan, PodFacts, Request, served_names
from pi.planning.unknown import least_used
from pi.text import count
from pi.vllm import arguments, raw_arguments
from pi.vllm.versions import too_old


def raw_plan(request: Request, facts: PodFacts, args: tuple[str, ...]) -> LaunchPlan:
    """The user's own arguments on the GPUs that they ask for; pi adds names, address and the environment."""
    raw_arguments.check_raw(args)
    share = _raw_share(args)
    length = arguments.value_of(args, "--max-model-len") or ""
    made = LaunchPlan(
        model=request.model,
        name=request.name,
        served_names=served_names(request.model, request),
        port=port_for(facts),
        gpus=(),
        args=args,
        env={},
        context=int(length) if re.fullmatch("[0-9]{1,9}", length) else None,
        memory_share=share,
        why=("--vllm: the arguments are your own",),
        warnings=raw_arguments.code_warnings(args),
    )
    if on_cpu(facts):
        decided = share is not None or arguments.value_of(args, "--kv-cache-memory-bytes")
        return replace(made, env=cpu.environment(facts, None if decided else cpu.kv_space_gib(facts)))
    size = request.gpus or _raw_count(args)
    if size > len(facts.gpus):
        raise InputError("too-many-gpus", f"--vllm asks for {count(size, 'GPU')}, the pod has {len(facts.gpus)}")
    chosen = least_used(facts, size, min(share or SHARE, SHARED))
    return replace(made, gpus=gpu_ids(chosen), env=gpu_env(chosen))


def on_raw_vllm(made: LaunchPlan, facts: PodFacts, known: tuple[ModelSpec, Variant] | None) -> LaunchPlan:
    """A plan of the user's own arguments: a floor of the catalog chooses the vLLM, but refuses none."""
    if known is None:
        return made
    spec, variant = known
    chosen = on_vllm(made, facts, variant.floor, spec.ceiling)
    if variant.floor and too_old(chosen.vllm_version, variant.floor):
        warning = f"the catalog says {venvs.wanted(variant.floor)}; the pod has {chosen.vllm_version}"
        chosen = replace(chosen, warnings=(*chosen.warnings, warning))
    return replace(chosen, vllm_floor=None)


def _raw_count(args: tuple[str, ...]) -> int:
    size = 1
    for option in ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"):
        value = arguments.value_of(args, option) or "1"
        size *= int(value) if re.fullmatch(r"[1-9]\d{0,2}", value) else 1
    return size


def _raw_share(args: tuple[str, ...]) -> float | None:
    value = arguments.value_of(args, "--gpu-memory-utilization") or ""
    return float(value) if re.fullmatch(r"0?\.\d+|1(\.0*)?", value) else None
