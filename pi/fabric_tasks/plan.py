"""`pi plan`: what a start would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.fabric_tasks.flags import flag, operand
from pi.fabric_tasks.options import MODEL, LaunchOptions
from pi.fabric_tasks.verb import verb
from pi.steps.plans import show_plan


@dataclass(frozen=True)
class PlanOptions(LaunchOptions):
    model: str = operand("MODEL", MODEL, required=True)
    name: str = flag("N", "name for the model", "model")


@verb(PlanOptions)
def plan(c: Any, options: PlanOptions) -> None:
    """Show what `pi start` would do: command, memory and reasons. Nothing changes."""
    show_plan(c, options.pod, options.request(options.model, options.name))
