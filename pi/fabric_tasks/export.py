"""`pi export`: print what runs as a pi.toml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tomli_w

from pi import screen
from pi.fabric_tasks.options import PodsOptions
from pi.fabric_tasks.verb import verb
from pi.steps import declared, group, listing, where


@dataclass(frozen=True)
class ExportOptions(PodsOptions):
    pass


@verb(ExportOptions, examples=("pi export > pi.toml", "pi export --all-pods > pi.toml"))
def export(c: Any, options: ExportOptions) -> None:
    """Print the models that run, with their options, as a pi.toml for `pi up`."""
    asked = group.ask(c, where.several(c, options.pod, options.all_pods), listing.see, listing.prepare)
    pods = dict[str, Any]()
    for each in asked:
        if each.answer:
            tables, unknown = declared.export(each.pod, each.answer.status)
            pods[each.pod.name] = {"models": tables}
            for name in unknown:
                screen.note(f"note: an older pi started {each.pod.name}/{name}; add its options by hand")
    screen.say(tomli_w.dumps({"pods": pods}).rstrip("\n"))
    group.raise_failed(asked)
