"""`pi models`: what a pod can serve."""

from __future__ import annotations

from typing import Any

from pi.fabric_tasks.verb import verb
from pi.steps.offers import show_offers


@verb(
    "[words...]",
    "[WORDS...] [--pod P] [--all] [--json]",
    iterable=["words"],
    name="models",
    details={
        "words": "only models whose names hold all of them",
        "pod": "the pod to look at instead of the active one",
        "all_": "also those that need a larger pod",
        "json": "as JSON",
    },
)
def models(
    c: Any, words: list[str] | None = None, pod: str | None = None, all_: bool = False, json: bool = False
) -> None:
    """List the models that pi knows: what fits the pod now, what fits when something stops, what needs more."""
    show_offers(c, pod, " ".join(words or ()), everything=all_, as_json=json)
