"""`pi models`: what a pod can serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.errors import InputError
from pi.fabric_tasks.flags import flag, operand, switch
from pi.fabric_tasks.json_refusals import json_refusals
from pi.fabric_tasks.options import PodsOptions, check_machine, json_switch, machine_flag
from pi.fabric_tasks.verb import verb
from pi.planning import machines
from pi.steps import where
from pi.steps.catalog_refresh import refresh
from pi.steps.offers import chosen, show_offers


@dataclass(frozen=True)
class ModelsOptions(PodsOptions):
    words: tuple[str, ...] = operand(
        "[WORDS...]", "only models whose names contain all of them; with --refresh, a file or URL", takes_rest=True
    )
    on: str | None = machine_flag()
    all_: bool = switch("include models that need a larger pod")
    json: bool = json_switch()
    refresh: bool = switch("replace the catalog by a newer one from a file or URL, or from catalog_url of config.toml")
    sha256: str | None = flag("HEX", "checksum of that catalog (default: in a file beside it)", requires="--refresh")


@verb(ModelsOptions, name="models", examples=("pi models qwen coder", 'pi models --on "2x RTX 4090"'))
def models(c: Any, options: ModelsOptions) -> None:
    """List the models pi knows, by whether they fit the pod now."""
    if options.refresh:
        if len(options.words) > 1:
            raise InputError("too-many-words", "pi models --refresh takes one file or URL")
        return refresh(options.words[0] if options.words else None, options.sha256)
    words = " ".join(options.words)
    check_machine(options.on, options.all_pods)
    with json_refusals(options.json):
        machine = machines.parse(options.on) if options.on is not None else None
        pods = where.Chosen(()) if machine else chosen(c, options.pod, options.all_pods)
        show_offers(c, pods, words, machine=machine, everything=options.all_, as_json=options.json)
