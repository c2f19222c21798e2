"""`pi shell`: a shell on a pod."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.fabric_tasks.flags import Options, operand
from pi.fabric_tasks.verb import verb
from pi.steps import handing_over, where


@dataclass(frozen=True)
class ShellOptions(Options):
    pod: str | None = operand("[POD]", "which pod; without it, the active one", completes="pod")


@verb(ShellOptions, examples=("pi shell", "pi shell dc1"))
def shell(c: Any, options: ShellOptions) -> None:
    """Open a shell on a pod, by the system's ssh."""
    with where.targeted(c, options.pod) as (_, connection):
        handing_over.become(connection.shell_words())
