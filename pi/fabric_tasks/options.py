"""Flags that several verbs share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pi.errors import InputError
from pi.fabric_tasks.flags import flag, repeated, switch, tail
from pi.fabric_tasks.reading import PodFlag
from pi.model_id import parse_typed
from pi.planning import adapters, amounts, overrides, variables
from pi.planning.types import Request
from pi.pods.types import check_name
from pi.vllm import pasted, raw_arguments, settings
from pi.vllm.arguments import Arguments

MODEL = "Hugging Face model id, or the path of a model on the pod"


@dataclass(frozen=True)
class PodOptions(PodFlag):
    """The options of a verb that works on one pod."""


def machine_flag() -> Any:
    """Declare the flag for a machine that is not a pod yet."""
    return flag("MACHINE", 'instead of a pod, an idle machine such as "2x RTX 4090"', excludes="--pod")


@dataclass(frozen=True)
class LaunchOptions(PodOptions):
    """The options that decide how a model is launched."""

    memory: str | None = flag("50%", "share of each GPU's memory, such as 50%", completes="memory")
    context: str | None = flag("32k", "context length in tokens, such as 32k", completes="context")
    gpus: str | None = flag("2", "number of GPUs", completes="gpus")
    for_throughput: bool = switch("for many users: all idle GPUs of a kind, not the fewest that hold the model")
    variant: str | None = flag("V", "which checkpoint of the model, such as fp8", completes="variant")
    text_only: bool = switch("load no encoder for images or sound, which leaves more memory for the context")
    lora: tuple[str, ...] = repeated("NAME=ID", "serve a LoRA adapter, from the hub or a path on the pod, as NAME")
    set: tuple[str, ...] = repeated("KEY=VALUE", "change one argument of `vllm serve`, such as max-num-seqs=64")
    env: tuple[str, ...] = repeated("NAME=VALUE", "set a variable of vLLM or its libraries, such as NCCL_DEBUG=INFO")
    draft: bool = switch("draft tokens that the model then checks (speculative decoding)", excludes="--no-draft")
    no_draft: bool = switch("do not draft tokens")
    vllm: tuple[str, ...] = tail("RAW ARGS...", "pass everything after it to `vllm serve`, replacing pi's own choices")

    def request(self, model: str, name: str) -> Request:
        """Return the planner's request. Raises InputError if a value cannot be used."""
        if self.gpus is not None and not re.fullmatch(r"0*[1-9][0-9]{0,3}", self.gpus, re.ASCII):
            raise InputError("gpus-invalid", f"invalid --gpus {self.gpus!r}", "use a number of GPUs, such as --gpus 2")
        typed = parse_typed(model)
        if self.variant and typed.variant and self.variant.lower() != typed.variant.lower():
            raise InputError(
                "flags-conflict",
                f"--variant {self.variant} and {typed.model}:{typed.variant} name two checkpoints",
                "name one of them",
            )
        request = Request(
            model=typed.model,
            name=check_name(name, "model"),
            gpus=int(self.gpus) if self.gpus else None,
            memory=amounts.parse_memory(self.memory) if self.memory else None,
            context=amounts.parse_context(self.context) if self.context else None,
            variant=self.variant or typed.variant,
            for_throughput=self.for_throughput,
            vllm_args=self._raw_arguments(),
            env=variables.parse(self.env),
            adapters=adapters.parse(self.lora),
            text_only=self.text_only,
            draft=True if self.draft else False if self.no_draft else None,
        )
        return overrides.requested(request, settings.parse(self.set))

    def _raw_arguments(self) -> Arguments | None:
        """Return the words after `--vllm`. Raises InputError if pi rejects them, or a flag that changes single ones."""
        if not self.vllm:
            return None
        changes = {"--set": self.set, "--lora": self.lora, "--text-only": self.text_only}
        if given := [flag for flag, value in changes.items() if value]:
            raise InputError(
                "flags-conflict", f"{given[0]} and --vllm exclude each other", "with --vllm you set all arguments"
            )
        pasted.check_words(self.vllm)
        raw = Arguments.parse(self.vllm)
        raw_arguments.check_raw(raw)
        return raw
