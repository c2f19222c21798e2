"""`pi audit`: what was changed on a pod, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.calls.audit import recent_changes
from pi.errors import InputError
from pi.fabric_tasks.flags import flag
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.verb import verb
from pi.steps import where


@dataclass(frozen=True)
class AuditOptions(PodOptions):
    lines: int = flag("N", "show this many changes", 50, short="-n")


@verb(AuditOptions, name="audit", examples=("pi audit", "pi audit -n 10 -p dc1"))
def audit(c: Any, options: AuditOptions) -> None:
    """Show the latest changes on the pod: who, what, and the result."""
    if options.lines < 1:
        raise InputError("lines-invalid", f"invalid --lines {options.lines}", "use 1 or more")
    with where.targeted(c, options.pod) as (pod, connection):
        rows = recent_changes(connection, options.lines)
    if not rows:
        screen.say(f"no changes on {pod.name} yet")
        return
    screen.table(rows, ("TIME (UTC)", "WHO", "COMMAND", "NAME", "RESULT"))
