"""`pi plan`: what a start would do, with nothing touched."""

from __future__ import annotations

from typing import Any

from pi.fabric_tasks.verb import verb
from pi.steps.plans import show_plan
from pi.steps.request import BENDING, request_of


@verb(
    "model",
    "MODEL [--name N] [--pod P] [--memory 50%] [--context 32k] [--gpus 2] [--variant V] [--vllm RAW ARGS...]",
    tail="vllm",
    iterable=["vllm"],
    details={"name": "the name it would have", **BENDING},
)
def plan(
    c: Any,
    model: str,
    name: str = "model",
    pod: str | None = None,
    memory: str | None = None,
    context: str | None = None,
    gpus: str | None = None,
    variant: str | None = None,
    vllm: list[str] | None = None,
) -> None:
    """Show what `start` would do: the command, the memory sum, the reasons; nothing is touched."""
    show_plan(c, pod, request_of(model, name, memory, context, gpus, variant, vllm))
