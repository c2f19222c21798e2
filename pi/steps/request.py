"""The words of `start` and `plan` as a request."""

from __future__ import annotations

import re

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning import amounts
from pi.planning.types import Request
from pi.pods.types import check_name
from pi.vllm import raw_arguments
from pi.vllm.arguments import Arguments

POD = {"pod": "the pod to use instead of the active one"}

BENDING = {
    "memory": "share of each GPU's memory, such as 50%",
    "context": "context length in tokens, such as 32k",
    "gpus": "how many GPUs",
    "variant": "which of the model's checkpoints, such as fp8",
    "vllm": "everything after it goes to `vllm serve` as it is, instead of the arguments pi would choose",
    **POD,
}


def request_of(
    model: str,
    name: str | None,
    memory: str | None,
    context: str | None,
    gpus: str | None,
    variant: str | None,
    vllm: list[str] | None,
) -> Request:
    if name is None:
        raise InputError("--name is missing", f"pi start {model} --name NAME")
    if gpus is not None and not re.fullmatch(r"0*[1-9][0-9]{0,3}", gpus, re.ASCII):
        raise InputError(f"--gpus {gpus!r} is not a number of GPUs", "such as --gpus 2")
    raw = Arguments.parse(vllm) if vllm else None
    if raw:
        raw_arguments.check_raw(raw)
    return Request(
        model=ModelId.parse(model),
        name=check_name(name, "model"),
        gpus=int(gpus) if gpus else None,
        memory=amounts.parse_memory(memory) if memory else None,
        context=amounts.parse_context(context) if context else None,
        variant=variant,
        vllm_args=raw,
    )


def timeout_of(given: str | None) -> int | None:
    if given is not None and not (given.isdecimal() and 0 < int(given) <= 10**6):
        raise InputError(f"--timeout {given!r} is not a number of seconds", "such as --timeout 600")
    return int(given) if given else None
