"""`pi pods active`: choose a pod."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pi import screen
from pi.fabric_tasks.verb import verb
from pi.pods import changes, state


@verb("name", "NAME")
def active(c: Any, name: str) -> None:
    """Choose the pod that the other verbs work on."""
    state.change(lambda known: replace(known, active=known.pod(name).name))
    changes.note("active", name)
    screen.say(f"{name} is active")
