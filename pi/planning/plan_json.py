"""The JSON of `pi plan --json`, and that of a refusal. It contains no secret and no address of a pod."""

from __future__ import annotations

import re
from typing import TypedDict

from pi.errors import PiError
from pi.planning.estimate import MemorySum
from pi.planning.serve import environment
from pi.planning.types import LaunchPlan, Request
from pi.vllm.arguments import Arguments


class MemoryJson(TypedDict):
    """Memory of each GPU in GiB, and what the KV cache holds. None is unknown.

    `kv_gib` is what vLLM gives the KV cache, `kv_tokens` are the tokens in it, `state_blocks` its blocks if layers have
    a state: no more requests run at the same time.
    """

    weights_gib: float | None
    kv_gib: float | None
    overhead_gib: float | None
    allowed_gib: float | None
    kv_tokens: int | None
    state_blocks: int | None


class PlanJson(TypedDict):
    """A plan. `model` is what the user requested, `checkpoint` what vLLM loads. `gpus` are nvidia-smi's indexes.

    `args` follow `vllm serve CHECKPOINT`, without names, host and port. None is unknown. `estimated` is whether the
    size comes from the catalog or the name, or is unknown, instead of the checkpoint's files.
    """

    model: str
    checkpoint: str
    variant: str | None
    gpus: list[int]
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    args: list[str]
    env: dict[str, str]
    context: int | None
    max_num_seqs: int | None
    download_gb: float | None
    memory: MemoryJson
    estimated: bool
    why: list[str]
    warnings: list[str]


class RefusedJson(TypedDict):
    """What is wrong, and what to do next."""

    message: str
    hint: str | None


class RefusalJson(TypedDict):
    """What pi prints instead of a plan or of models, with exit code 2."""

    refused: RefusedJson


def as_json(plan: LaunchPlan, request: Request) -> PlanJson:
    """Return a plan as `pi plan --json` prints it. Raises InputError for a variable that models.toml may not set."""
    return {
        "model": str(request.model),
        "checkpoint": str(plan.model),
        "variant": plan.variant,
        "gpus": list(plan.gpus),
        "tensor_parallel": _number(plan.args, "--tensor-parallel-size") or 1,
        "pipeline_parallel": _number(plan.args, "--pipeline-parallel-size") or 1,
        "data_parallel": _number(plan.args, "--data-parallel-size") or 1,
        "args": list(plan.args.words),
        "env": {name: value for name, value in environment(plan).items() if name in plan.env},
        "context": plan.context,
        "max_num_seqs": _number(plan.args, "--max-num-seqs"),
        "download_gb": plan.download_gb,
        "memory": _memory(plan.memory),
        "estimated": plan.estimated,
        "why": list(plan.why),
        "warnings": list(plan.warnings),
    }


def refusal_as_json(error: PiError) -> RefusalJson:
    return {"refused": {"message": error.message, "hint": error.hint}}


def _memory(memory: MemorySum | None) -> MemoryJson:
    return {
        "weights_gib": _gib(memory.weights_gib) if memory else None,
        "kv_gib": _gib(memory.room_gib) if memory else None,
        "overhead_gib": _gib(memory.overhead_gib) if memory else None,
        "allowed_gib": _gib(memory.allowed_gib) if memory else None,
        "kv_tokens": memory.kv_tokens if memory else None,
        "state_blocks": memory.state_blocks if memory else None,
    }


def _gib(size: float) -> float:
    return round(size, 2)


def _number(args: Arguments, option: str) -> int | None:
    """Return the value of an option, or None if it is missing or not a number that vLLM accepts."""
    value = args.get(option) or ""
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else None
