"""`pi pods active`: choose a pod."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pi import screen
from pi.fabric_tasks.flags import Options, operand
from pi.fabric_tasks.verb import verb
from pi.pods import changes, state


@dataclass(frozen=True)
class ActiveOptions(Options):
    name: str = operand("NAME", "which pod", required=True, completes="pod")


@verb(ActiveOptions, examples=("pi pods active dc1",))
def active(c: Any, options: ActiveOptions) -> None:
    """Choose the pod that the other commands use."""
    state.change(lambda before: replace(before, active=before.pod(options.name).name))
    changes.note("active", options.name)
    screen.say(f"{options.name} is active")
