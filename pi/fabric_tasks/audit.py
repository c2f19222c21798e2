"""`pi audit`: what was changed on a pod, and by whom."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.calls.audit import recent_changes
from pi.errors import InputError
from pi.fabric_tasks.verb import verb
from pi.steps import where


@verb(
    "",
    "[--pod P] [--lines N]",
    name="audit",
    details={"pod": "the pod to use instead of the active one", "lines": "how many of the last changes"},
)
def audit(c: Any, pod: str | None = None, lines: int = 50) -> None:
    """Show the last changes made to the pod, by whom, and how they went, from the log on the pod."""
    if lines < 1:
        raise InputError(f"--lines {lines} is too few", "1 or more")
    with where.targeted(c, pod) as (place, link):
        rows = recent_changes(link, lines)
    if not rows:
        screen.say(f"nothing was changed on {place.name} yet")
        return
    screen.table(rows, ("TIME (UTC)", "WHO", "COMMAND", "NAME", "RESULT"))
