"""Show which models of the catalog fit a pod."""

from __future__ import annotations

from datetime import date
from typing import Any

from pi import config, screen
from pi.planning import catalog, offers, prices, refusals
from pi.planning.machines import Machine
from pi.planning.offers import Offer
from pi.planning.types import PodFacts
from pi.pods import gpus, state
from pi.steps import catalog_refresh, kept_prices, unrented
from pi.steps.plans import facts_of


def show_offers(
    c: Any,
    pod: str | None,
    words: str = "",
    *,
    machine: Machine | None = None,
    everything: bool = False,
    as_json: bool = False,
) -> None:
    """Print the catalog by what fits the pod now, or an idle machine; without any pod, print all of it."""
    known_models = catalog.load(config.config_dir())
    facts = unrented.facts_of(machine, known_models) if machine else _facts(c, pod)
    found = offers.offers(known_models, facts, words, facts.prices if facts else kept_prices.load())
    if not found and "/" in words:
        found = (offers.possibly(words),)
    if as_json:
        screen.say_json([offer.as_json() for offer in found])
        return
    for kind in TITLES:
        _show_group(kind, [offer for offer in found if offer.state == kind], everything or facts is None or bool(words))
    if not found:
        screen.say(f"no model in the catalog matches {words!r}")
    if machine and facts:
        screen.say(_next_on(machine, facts))
        return
    screen.say("start one: pi start MODEL --name NAME; other Hugging Face models and paths on the pod may work too")
    screen.say(catalog_refresh.age(known_models.date, date.today()))
    if facts is None:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')


def _next_on(machine: Machine, facts: PodFacts) -> str:
    price = prices.per_hour(facts.prices, machine.kind, machine.count)
    assumed = f"{prices.with_price(machine.title, price)}, idle, with vLLM {facts.vllm_version}"
    return f'planned for {assumed}; one plan: pi plan MODEL --on "{machine.title}"'


def _facts(c: Any, pod: str | None) -> PodFacts | None:
    """Return what is true of the pod now, or None if there are no pods; print which GPUs it lost."""
    if not (pod or state.load().pods):
        return None
    entry, facts = facts_of(c, pod)
    if gpus.is_silent(facts.unread_gpus) and entry.gpus:
        refusals.require_gpus(entry.name, entry.gpus, facts)
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
    priced = any(offer.price_per_hour is not None for offer in group)
    headers = ("MODEL", "AS", "GPUS", memory, "CONTEXT", *(["PER HOUR"] if priced else []), "NEEDS")
    screen.table([_row(offer, priced) for offer in group], headers, shrink="MODEL", below="NEEDS")
    screen.say()


def _row(offer: Offer, priced: bool) -> tuple[object, ...]:
    where = f"{offer.gpus}x {offer.kind}" if offer.gpus else offer.kind or "-"
    size = "-" if offer.gib is None else f"{offer.gib:g}"
    context = "-" if offer.context is None else f"{offer.context // 1024}k"
    price = "-" if offer.price_per_hour is None else prices.amount(offer.price_per_hour)
    return offer.model, offer.precision or "-", where, size, context, *([price] if priced else []), offer.needs
