"""Show which models of the catalog fit a pod."""

from __future__ import annotations

import json
from typing import Any

from pi import config, screen
from pi.planning import catalog, offers
from pi.planning.offers import Offer
from pi.pods import gpus, state
from pi.steps.plans import facts_of


def show_offers(c: Any, pod: str | None, words: str = "", *, everything: bool = False, as_json: bool = False) -> None:
    """Print the catalog by what fits the pod now; without any pod, print all of it."""
    facts = None
    if pod or state.load().pods:
        entry, facts = facts_of(c, pod)
        for line in gpus.lost(entry.gpus, facts.gpus, facts.unread_gpus):
            screen.note(f"warning: {line}")
    found = offers.offers(catalog.load(config.config_dir()), facts, words)
    if not found and "/" in words:
        found = (offers.possibly(words),)
    if as_json:
        screen.say(json.dumps([offer.as_json() for offer in found], indent=2))
        return
    for kind, title in (
        (offers.FITS, "fits now"),
        (offers.BUSY, "fits when something stops"),
        (offers.MORE, "needs more"),
        (offers.POSSIBLE, "possibly works"),
    ):
        shown = [offer for offer in found if offer.state == kind]
        if shown and (kind != offers.MORE or everything or facts is None or words):
            screen.say(f"{title}:")
            memory = "GIB TOTAL" if kind == offers.MORE else "GIB EACH"
            screen.table([_row(offer) for offer in shown], ("MODEL", "AS", "GPUS", memory, "CONTEXT", "NEEDS"))
            screen.say()
        elif shown:
            screen.say(f"{len(shown)} more need a larger pod: pi models --all")
    if not found:
        screen.say(f"no model in the catalog matches {words!r}")
    screen.say("start one: pi start MODEL --name NAME; other Hugging Face models and paths on the pod may work too")
    if facts is None:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')


def _row(offer: Offer) -> tuple[object, ...]:
    where = f"{offer.gpus}x {offer.kind}" if offer.gpus else offer.kind or "-"
    size = "-" if offer.gib is None else f"{offer.gib:g}"
    context = "-" if offer.context is None else f"{offer.context // 1024}k"
    return offer.model, offer.precision or "-", where, size, context, offer.needs
