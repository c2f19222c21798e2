"""`pi models`: what a pod can serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.errors import InputError
from pi.fabric_tasks.flags import flag, operand, switch
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.verb import verb
from pi.steps.catalog_refresh import refresh
from pi.steps.offers import show_offers


@dataclass(frozen=True)
class ModelsOptions(PodOptions):
    words: tuple[str, ...] = operand(
        "[WORDS...]", "only models whose names contain all of them; with --refresh, a file or URL", takes_rest=True
    )
    all_: bool = switch("include models that need a larger pod")
    json: bool = switch("print JSON")
    refresh: bool = switch("replace the catalog by a newer one from a file or URL, or from catalog_url of config.toml")
    sha256: str | None = flag("HEX", "checksum of that catalog (default: in a file beside it)", requires="--refresh")


@verb(ModelsOptions, name="models")
def models(c: Any, options: ModelsOptions) -> None:
    """List the models pi knows, by whether they fit the pod now."""
    if options.refresh:
        if len(options.words) > 1:
            raise InputError("too-many-words", "pi models --refresh takes one file or URL")
        refresh(options.words[0] if options.words else None, options.sha256)
    else:
        show_offers(c, options.pod, " ".join(options.words), everything=options.all_, as_json=options.json)
