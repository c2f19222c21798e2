"""`pi models`: what a pod can serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.fabric_tasks.flags import operand, switch
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.verb import verb
from pi.steps.offers import show_offers


@dataclass(frozen=True)
class ModelsOptions(PodOptions):
    words: tuple[str, ...] = operand("[WORDS...]", "only models whose names contain all of them", takes_rest=True)
    all_: bool = switch("include models that need a larger pod")
    json: bool = switch("print JSON")


@verb(ModelsOptions, name="models")
def models(c: Any, options: ModelsOptions) -> None:
    """List the models pi knows, by whether they fit the pod now."""
    show_offers(c, options.pod, " ".join(options.words), everything=options.all_, as_json=options.json)
