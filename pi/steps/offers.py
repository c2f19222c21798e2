"""Show which models of the catalog fit a pod."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from pi import config, screen
from pi.planning import catalog, offers
from pi.planning.offers import Offer
from pi.planning.types import PodFacts
from pi.pods import gpus, state
from pi.steps import catalog_refresh
from pi.steps.plans import facts_of


def show_offers(c: Any, pod: str | None, words: str = "", *, everything: bool = False, as_json: bool = False) -> None:
    """Print the catalog by what fits the pod now; without any pod, print all of it."""
    facts = _facts(c, pod)
    known = catalog.load(config.config_dir())
    found = offers.offers(known, facts, words)
    if not found and "/" in words:
        found = (offers.possibly(words),)
    if as_json:
        screen.say(json.dumps([offer.as_json() for offer in found], indent=2))
        return
    for kind in TITLES:
        _show_group(kind, [offer for offer in found if offer.state == kind], everything or facts is None or bool(words))
    if not found:
        screen.say(f"no model in the catalog matches {words!r}")
    screen.say("start one: pi start MODEL --name NAME; other Hugging Face models and paths on the pod may work too")
    screen.say(catalog_refresh.age(known.date, date.today()))
    if facts is None:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')


def _facts(c: Any, pod: str | None) -> PodFacts | None:
    """Return what is true of the pod now, or None if there are no pods; print which GPUs it lost."""
    if not (pod or state.load().pods):
        return None
    entry, facts = facts_of(c, pod)
    for line in gpus.lost(entry.gpus, facts.gpus, facts.unread_gpus):
        screen.note(f"warning: {line}")
    return facts


TITLES = {
    offers.FITS: "fits now",
    offers.BUSY: "fits when something stops",
    offers.MORE: "needs more",
    offers.POSSIBLE: "possibly works",
}


def _show_group(kind: str, group: list[Offer], everything: bool) -> None:
    if not group:
        return
    if kind == offers.MORE and not everything:
        screen.say(f"{len(group)} more need a larger pod: pi models --all")
        return
    screen.say(f"{TITLES[kind]}:")
    memory = "GIB TOTAL" if kind == offers.MORE else "GIB EACH"
    screen.table([_row(offer) for offer in group], ("MODEL", "AS", "GPUS", memory, "CONTEXT", "NEEDS"))
    screen.say()


def _row(offer: Offer) -> tuple[object, ...]:
    where = f"{offer.gpus}x {offer.kind}" if offer.gpus else offer.kind or "-"
    size = "-" if offer.gib is None else f"{offer.gib:g}"
    context = "-" if offer.context is None else f"{offer.context // 1024}k"
    return offer.model, offer.precision or "-", where, size, context, offer.needs
