"""Plan with what vLLM measured at an earlier start with the same setting."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from pi.planning.corrected import with_correction
from pi.planning.estimate import MemorySum
from pi.planning.measurements import Measurement, Setting
from pi.planning.reasons import predicts_context, room_reason
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.vllm.arguments import Arguments
from pi.vllm.corrections import BATCH, CONTEXT, SEQUENCES, SHARE, Correction, is_fixed
from pi.vllm.measured import Measured
from pi.vllm.venvs import VENV

WITHOUT_MEMORY = frozenset(
    {
        *(SEQUENCES, BATCH, CONTEXT, SHARE),
        "--tensor-parallel-size",
        "--pipeline-parallel-size",
        "--data-parallel-size",
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "--reasoning-parser",
        "--chat-template",
        "--default-chat-template-kwargs",
        "--trust-remote-code",
    }
)
"""Options that are a part of the setting by themselves, or that change no memory."""

PLACES = frozenset({"CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "VLLM_CPU_OMP_THREADS_BIND"})
"""Variables that choose GPUs and cores."""


def as_measured(plan: LaunchPlan, request: Request, facts: PodFacts) -> LaunchPlan:
    """Return the plan with the figures and corrections of an earlier start with its setting, if there was one."""
    plan = replace(plan, setting=setting_of(plan, facts))
    found = facts.measurements.get(plan.setting) if plan.setting else None
    if found is None:
        return plan
    if request.vllm_args is None:
        plan = _with_corrections(plan, found)
    if plan.memory is not None:
        measured = with_measurement(plan.memory, found.measured, request.context)
        plan = replace(plan, memory=measured, predicted=plan.memory, measured_on=found.day)
    return _with_context(plan, found)


def setting_of(plan: LaunchPlan, facts: PodFacts) -> Setting | None:
    """Return the setting under which a start of this plan is kept; None if its vLLM or its files are unknown.

    A path may hold another model on another pod: the size of its weights tells them apart.
    """
    version = plan.vllm_version or (facts.vllm_version if plan.venv == VENV else None)
    if version is None or (plan.model.is_path and facts.weights_bytes is None):
        return None
    return Setting(
        checkpoint=f"{plan.model} ({facts.weights_bytes} bytes)" if plan.model.is_path else str(plan.model),
        card=card_of(plan, facts),
        tensor=plan.split.tensor,
        pipeline=plan.split.pipeline,
        data=plan.split.data,
        vllm=version,
        share=plan.memory_share,
        max_num_seqs=plan.args.get(SEQUENCES) or "",
        max_num_batched_tokens=plan.args.get(BATCH) or "",
        arguments=_digest(plan.args, plan.env),
    )


def with_measurement(memory: MemorySum, measured: Measured, wanted: int | None) -> MemorySum:
    """Return a sum with vLLM's own weights, room for the KV cache, and tokens; `wanted` is the user's context."""
    weights = memory.weights_gib if measured.loading_gib is None else measured.loading_gib
    allowed = measured.allowed_gib or memory.allowed_gib
    memory = replace(memory, weights_gib=weights, allowed_gib=allowed, uncertainty=0.0)
    room, tokens = measured.kv_gib, measured.kv_tokens
    if room is None:
        return memory
    memory = replace(memory, overhead_gib=max(0.0, allowed - weights - room), room_gib=room)
    if not tokens:
        return replace(memory, kv_cache_gib=min(room, memory.kv_cache_gib))
    longest = measured.fitted_context
    if longest is None and memory.longest is not None:
        longest = max(measured.context or 0, min(memory.longest, tokens))
    context = wanted or longest
    return replace(memory, longest=longest, context=context, kv_cache_gib=room * min(1.0, (context or tokens) / tokens))


def card_of(plan: LaunchPlan, facts: PodFacts) -> str:
    """Return the kind of GPU that a plan uses, such as "NVIDIA H100 PCIe, 80 GiB", or "CPU"."""
    card = next((gpu for gpu in facts.gpus if gpu.id in plan.gpus), None)
    return f"{card.name}, {round(card.memory_mib / 1024)} GiB" if card else "CPU"


def digest_of_start(plan: LaunchPlan) -> str:
    """Return a digest of all that decides the memory of a start besides its GPUs' kind and packages.

    vLLM's own key for the size of the KV cache lacks the model's share of the memory (CacheConfig.compute_hash, 0.32).
    """
    variables = sorted(f"{name}={value}" for name, value in plan.env.items())
    words = [str(plan.model), str(plan.memory_share), str(len(plan.gpus)), *plan.args.words, *variables]
    return hashlib.sha256("\n".join(words).encode("utf-8", "replace")).hexdigest()[:16]


def _digest(args: Arguments, env: Mapping[str, str]) -> str:
    words = sorted(" ".join(item.words) for item in args.items if item.name not in WITHOUT_MEMORY)
    variables = sorted(f"{name}={value}" for name, value in env.items() if name not in PLACES)
    return hashlib.sha256("\n".join([*words, *variables]).encode("utf-8", "replace")).hexdigest()[:16]


def _with_corrections(plan: LaunchPlan, found: Measurement) -> LaunchPlan:
    """Set the values that vLLM required, so that the start does not fail again."""
    for option, value in found.corrections.items():
        if not is_fixed(option, plan.fixed) and _usable(option, value, plan):
            sentence = f"{option} {value}: vLLM required it at a start on {found.day}"
            plan = with_correction(plan, Correction(option, value, sentence))
            plan = replace(plan, why=(*plan.why, sentence))
    return plan


def _usable(option: str, value: str, plan: LaunchPlan) -> bool:
    """Return whether a value from the file is a number for an option that pi corrects."""
    return option in CORRECTED and value.isdecimal() and len(value) < 10 and plan.args.get(option) != value


CORRECTED = frozenset({SEQUENCES, BATCH, CONTEXT, "--max-cudagraph-capture-size"})


def _with_context(plan: LaunchPlan, found: Measurement) -> LaunchPlan:
    """Set the context of a plan that leaves it to vLLM to the one that vLLM chose."""
    longest = found.measured.fitted_context or (plan.memory.longest if plan.memory else None)
    if plan.args.get(CONTEXT) != "auto" or longest is None:
        return plan
    why = tuple(sentence for sentence in plan.why if not predicts_context(sentence))
    sentence = f"context of {longest} tokens, as vLLM measured on {found.day}"
    room = room_reason(plan.memory) if plan.memory else ()
    return replace(plan, context=longest, why=(*why, sentence, *room))
