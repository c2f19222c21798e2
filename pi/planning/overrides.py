"""What a user changes in a plan: `--set`, `--env`, `--lora` and `--text-only`, laid over pi's own choices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pi.errors import AbsentError, InputError
from pi.planning import adapters, amounts
from pi.planning.catalog import ModelSpec
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.vllm import raw_arguments, settings
from pi.vllm.arguments import Argument, Arguments

TEXT_ONLY = Arguments().set("--language-model-only")
"""vLLM loads no encoder for images or sound."""

PLANNED = {
    "--max-model-len": "context",
    "--gpu-memory-utilization": "memory",
    "--tensor-parallel-size": "gpus",
}
"""Arguments of `--set` that pi plans with, and the flags that mean the same."""

SPLITS = (
    "--pipeline-parallel-size",
    "--data-parallel-size",
    "--data-parallel-size-local",
    "--prefill-context-parallel-size",
    "--device-ids",
)
"""Arguments that change how many GPUs a model uses, or which."""

BEYOND_THE_SUM = ("--kv-cache-memory-bytes", "--num-gpu-blocks-override", "--cpu-offload-gb")
"""Arguments after which the memory that pi calculates is not the memory that vLLM takes."""


def requested(request: Request, args: Arguments) -> Request:
    """Return a request with the arguments of `--set`; those of PLANNED become the planner's own fields.

    Raises InputError for arguments that contradict a flag, or that change the split over GPUs.
    """
    kept = []
    for item in args.items:
        option = str(item.name)
        _check_whole(option)
        if option in SPLITS:
            raise InputError(
                "set-split",
                f"--set may not contain {option.removeprefix('--')}: pi chooses GPUs and split",
                "use --gpus N, or --vllm for all arguments of your own",
            )
        change = _planned(option, item)
        if change is None:
            kept.append(item)
            continue
        if any(getattr(request, field) not in (None, value) for field, value in change.items()):
            raise InputError(
                "flags-conflict",
                f"--{PLANNED[option]} and --set {option.removeprefix('--')} contradict each other",
                "remove one of them",
            )
        request = replace(request, **change)
    return replace(request, set_args=Arguments(tuple(kept)))


def _check_whole(option: str) -> None:
    """Reject the beginning of an option that pi plans with: vLLM would take it for the whole."""
    known = (*PLANNED, *SPLITS)
    whole = next((name for name in known if name.startswith(option)), None)
    if whole and option not in known:
        raise InputError(
            "set-abbreviated", f"--set {option.removeprefix('--')} is cut short", f"write {whole.removeprefix('--')}"
        )


def _planned(option: str, item: Argument) -> dict[str, Any] | None:
    """Return the fields of a request that an argument sets, with their values; None for other arguments."""
    text = (item.value or "").strip()
    if option in PLANNED and not text:
        name = option.removeprefix("--")
        raise InputError("set-invalid", f"--set {name} has no value", f"write --set {name}=VALUE")
    if option == "--max-model-len" and text.lower() not in ("auto", "-1"):
        return {"context": amounts.parse_context(str(settings.number_of(text) or text))}
    if option == "--gpu-memory-utilization":
        return {"memory": amounts.parse_memory(text)}
    if option == "--tensor-parallel-size":
        if not re.fullmatch(r"[1-9][0-9]{0,3}", text, re.ASCII):
            raise InputError("gpus-invalid", f"invalid --set tensor-parallel-size={text[:20]}", "use a number of GPUs")
        return {"gpus": int(text), "tensor": int(text)}
    return None


def with_adapter_args(request: Request, facts: PodFacts) -> Request:
    """Return a request with the arguments that serve its adapters. Raises InputError or AbsentError."""
    if not request.adapters:
        return request
    known = [facts.adapters.get(adapter.source) for adapter in request.adapters]
    for adapter, found in zip(request.adapters, known, strict=True):
        if found and found.absent:
            raise AbsentError("no-such-path", f"the pod has no directory {adapter.source}")
    args = adapters.arguments(request.adapters, (found.rank if found else None for found in known))
    return replace(request, adapter_args=args)


def laid_over(plan: LaunchPlan, request: Request, facts: PodFacts, spec: ModelSpec | None) -> LaunchPlan:
    """Return a plan with what the user changes. Raises InputError if the model or its split does not allow it."""
    if request.tensor not in (None, plan.split.tensor) or (request.tensor and plan.split.gpus != request.tensor):
        raise InputError(
            "set-split",
            f"pi would not split {plan.model} by {request.tensor}-way tensor parallelism, but {_split_of(plan)}",
            f"use --gpus {request.gpus} for that, or --vllm for all arguments of your own",
        )
    if request.text_only:
        plan = _text_only(plan, request, spec)
    if request.adapters:
        plan = _with_adapters(plan, request, facts, spec)
    args, why = request.set_args, plan.why
    warnings = (*plan.warnings, *raw_arguments.code_warnings(args), *_beyond_the_sum(args))
    if args.items:
        why += (f"set by you: {settings.listed(args.items)}",)
    if request.env:
        why += (f"environment set by you: {', '.join(request.env)}",)
    return replace(
        plan,
        args=settings.laid_over(args, plan.args),
        env={**plan.env, **request.env},
        why=why,
        warnings=tuple(dict.fromkeys(warnings)),
        fixed=_fixed(request),
        reads_words=bool(args.items or request.vllm_args or request.env),
    )


def _split_of(plan: LaunchPlan) -> str:
    sizes = {"tensor": plan.split.tensor, "pipeline": plan.split.pipeline, "data": plan.split.data}
    return " and ".join(f"{size}-way {word}" for word, size in sizes.items() if size > 1) or "not at all"


def _text_only(plan: LaunchPlan, request: Request, spec: ModelSpec | None) -> LaunchPlan:
    if spec is None or not spec.text_only:
        known = f"the recipe of {spec.title} has no text-only mode" if spec else "pi has no recipe for this model"
        raise InputError(
            "no-text-only", f"{request.model}: {known}", "remove --text-only; to try it: --set language-model-only"
        )
    why = (*plan.why, "text only, as requested: vLLM loads no encoder for images or sound")
    return replace(plan, args=settings.laid_over(TEXT_ONLY, plan.args), why=why)


def _with_adapters(plan: LaunchPlan, request: Request, facts: PodFacts, spec: ModelSpec | None) -> LaunchPlan:
    taken = {name.lower() for name in plan.served_names}
    ids = (plan.model, request.model, *((spec.id, *(variant.id for variant in spec.variants)) if spec else ()))
    why, warnings = list(plan.why), list(plan.warnings)
    for adapter in request.adapters:
        known = facts.adapters.get(adapter.source)
        if adapter.name.lower() in taken:
            raise InputError(
                "name-taken", f"--lora {adapter.name}: the model itself has this name", "choose another name for it"
            )
        why.append(adapters.reason(adapter, known))
        warnings += adapters.doubts(adapter, known, ids)
    if "--lora-modules" in request.set_args:
        raise InputError(
            "flags-conflict", "--lora and --set lora-modules exclude each other", "use --lora for each adapter"
        )
    args = settings.laid_over(request.adapter_args, plan.args)
    names = tuple(adapter.name for adapter in request.adapters)
    return replace(plan, args=args, adapters=names, why=tuple(why), warnings=tuple(warnings))


def _beyond_the_sum(args: Arguments) -> tuple[str, ...]:
    given = [option for option in BEYOND_THE_SUM if option in args]
    return tuple(f"pi's memory sum does not include {option}" for option in given)


def _fixed(request: Request) -> frozenset[str]:
    """Return the options whose values are the user's, not pi's."""
    given = settings.names(request.set_args + (request.vllm_args or Arguments()))
    flags: Mapping[str, str] = {option: field for option, field in PLANNED.items() if getattr(request, field)}
    return given | frozenset(flags)
