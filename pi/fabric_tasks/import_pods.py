"""`pi pods import`: register the machines that you rent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.errors import InputError
from pi.fabric_tasks.flags import Options, operand, switch
from pi.fabric_tasks.verb import verb
from pi.planning import prices
from pi.pods import changes, state
from pi.steps import importing
from pi.steps.providers import PROVIDERS


@dataclass(frozen=True)
class ImportOptions(Options):
    provider: str = operand(
        "runpod|vast", "where you rent: pi asks runpodctl or vastai, with your login", required=True
    )
    dry_run: bool = switch("show what would be registered; nothing changes")


@verb(ImportOptions, name="import", examples=("pi pods import runpod --dry-run", "pi pods import vast"))
def import_pods(c: Any, options: ImportOptions) -> None:
    """Register the machines that run at a provider, with name, ssh command and price; nothing on them changes."""
    if options.provider not in PROVIDERS:
        raise InputError(
            "provider-unknown", f"unknown provider {options.provider!r}", f"use one of {', '.join(PROVIDERS)}"
        )
    saved = state.load()
    with screen.progress() as line:
        line.show(f"  asking {options.provider}")
        machines = PROVIDERS[options.provider]()
    found = importing.plan(saved, options.provider, machines)
    for each in found:
        price = f" ({prices.amount(each.pod.price)} per hour)" if each.pod and each.pod.price is not None else ""
        screen.say(f"{each.sentence}{price}")
    if not machines:
        screen.say(f"no machine runs at {options.provider}")
    if not options.dry_run:
        importing.save(found)
        for pod in (each.pod for each in found if each.pod):
            changes.note("import", pod.name)
