"""`pi models`: what a pod can serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.fabric_tasks.flags import operand, switch
from pi.fabric_tasks.json_refusals import json_refusals
from pi.fabric_tasks.options import PodOptions, machine_flag
from pi.fabric_tasks.verb import verb
from pi.planning import machines
from pi.steps.offers import show_offers


@dataclass(frozen=True)
class ModelsOptions(PodOptions):
    words: tuple[str, ...] = operand("[WORDS...]", "only models whose names contain all of them", takes_rest=True)
    on: str | None = machine_flag()
    all_: bool = switch("include models that need a larger pod")
    json: bool = switch("print JSON")


@verb(ModelsOptions, name="models")
def models(c: Any, options: ModelsOptions) -> None:
    """List the models pi knows, by whether they fit the pod now."""
    words = " ".join(options.words)
    with json_refusals(options.json):
        machine = machines.parse(options.on) if options.on is not None else None
        show_offers(c, options.pod, words, machine=machine, everything=options.all_, as_json=options.json)
