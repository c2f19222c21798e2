"""Flags that several verbs share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pi.errors import InputError
from pi.fabric_tasks.flags import Options, flag, tail
from pi.model_id import parse_typed
from pi.planning import amounts
from pi.planning.types import Request
from pi.pods.types import check_name
from pi.vllm import raw_arguments
from pi.vllm.arguments import Arguments

MODEL = "Hugging Face model id, or the path of a model on the pod"


@dataclass(frozen=True)
class PodOptions(Options):
    """The options of a verb that works on one pod."""

    pod: str | None = flag("P", "use this pod instead of the active one")


@dataclass(frozen=True)
class LaunchOptions(PodOptions):
    """The options that decide how a model is launched."""

    memory: str | None = flag("50%", "share of each GPU's memory, such as 50%")
    context: str | None = flag("32k", "context length in tokens, such as 32k")
    gpus: str | None = flag("2", "number of GPUs")
    variant: str | None = flag("V", "which checkpoint of the model, such as fp8")
    vllm: tuple[str, ...] = tail("RAW ARGS...", "pass everything after it to `vllm serve`, replacing pi's own choices")

    def request(self, model: str, name: str) -> Request:
        """Return the planner's request. Raises InputError if a value cannot be used."""
        if self.gpus is not None and not re.fullmatch(r"0*[1-9][0-9]{0,3}", self.gpus, re.ASCII):
            raise InputError("gpus-invalid", f"invalid --gpus {self.gpus!r}", "use a number of GPUs, such as --gpus 2")
        raw = Arguments.parse(self.vllm) if self.vllm else None
        if raw:
            raw_arguments.check_raw(raw)
        typed = parse_typed(model)
        if self.variant and typed.variant and self.variant.lower() != typed.variant.lower():
            raise InputError(
                "flags-conflict",
                f"--variant {self.variant} and {typed.model}:{typed.variant} name two checkpoints",
                "name one of them",
            )
        return Request(
            model=typed.model,
            name=check_name(name, "model"),
            gpus=int(self.gpus) if self.gpus else None,
            memory=amounts.parse_memory(self.memory) if self.memory else None,
            context=amounts.parse_context(self.context) if self.context else None,
            variant=self.variant or typed.variant,
            vllm_args=raw,
        )
