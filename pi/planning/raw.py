"""Plans with the user's own arguments (`--vllm`)."""

from __future__ import annotations

import re
from dataclasses import replace

from pi.errors import InputError
from pi.planning import cpu, venvs
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.free_gpus import least_used
from pi.planning.plan_args import gpu_env, served_names
from pi.planning.room import SHARE, SHARED, gpu_ids
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.text import count
from pi.vllm import raw_arguments
from pi.vllm.arguments import Arguments
from pi.vllm.versions import too_old


def raw_plan(request: Request, facts: PodFacts, args: Arguments) -> LaunchPlan:
    """Plan the user's arguments on the GPUs that they request; pi adds names, address and environment."""
    raw_arguments.check_raw(args)
    share = _share_of(args)
    length = args.get("--max-model-len") or ""
    plan = LaunchPlan(
        model=request.model,
        name=request.name,
        served_names=served_names(request.model, request),
        port=facts.free_port,
        gpus=(),
        args=args,
        env={},
        context=int(length) if re.fullmatch("[0-9]{1,9}", length) else None,
        memory_share=share,
        why=("--vllm: you set all arguments",),
        warnings=raw_arguments.code_warnings(args),
    )
    if facts.is_cpu:
        has_kv_space = share is not None or args.get("--kv-cache-memory-bytes")
        return replace(plan, env=cpu.environment(facts, None if has_kv_space else cpu.kv_space_gib(facts)))
    size = request.gpus or _gpus_of(args)
    if size > len(facts.gpus):
        raise InputError("too-many-gpus", f"--vllm requests {count(size, 'GPU')}, but the pod has {len(facts.gpus)}")
    chosen = least_used(facts, size, min(share or SHARE, SHARED))
    return replace(plan, gpus=gpu_ids(chosen), env=gpu_env(chosen))


def with_catalog_venv(plan: LaunchPlan, facts: PodFacts, entry: tuple[ModelSpec, Variant] | None) -> LaunchPlan:
    """Choose the vLLM by the catalog; an older one gives a warning, not an error."""
    if entry is None:
        return plan
    spec, variant = entry
    plan = venvs.with_venv(plan, facts, variant.min_vllm, spec.max_vllm)
    if variant.min_vllm and too_old(plan.vllm_version, variant.min_vllm):
        warning = f"the catalog requires {venvs.at_least(variant.min_vllm)}, but the pod has {plan.vllm_version}"
        plan = replace(plan, warnings=(*plan.warnings, warning))
    return replace(plan, min_vllm=None)


def _gpus_of(args: Arguments) -> int:
    size = 1
    for option in ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"):
        value = args.get(option) or "1"
        size *= int(value) if re.fullmatch(r"[1-9]\d{0,2}", value) else 1
    return size


def _share_of(args: Arguments) -> float | None:
    value = args.get("--gpu-memory-utilization") or ""
    return float(value) if re.fullmatch(r"0?\.\d+|1(\.0*)?", value) else None
