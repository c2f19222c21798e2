"""Show which models of the catalog fit a pod."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from pi import config, screen
from pi.calls.survey import look
from pi.planning import catalog, offers, prices, refusals
from pi.planning.machines import Machine
from pi.planning.offers import Offer
from pi.planning.types import PodFacts
from pi.pods import gpus, state
from pi.pods.types import Pod
from pi.steps import catalog_refresh, group, kept_prices, unrented, where

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def chosen(c: Any, names: str | None, every: bool) -> where.Chosen:
    """Return the pods of a verb, or none if there are no pods at all."""
    return where.several(c, names, every) if names or every or state.load().pods else where.Chosen(())


def show_offers(
    c: Any,
    pods: where.Chosen,
    words: str = "",
    *,
    machine: Machine | None = None,
    everything: bool = False,
    as_json: bool = False,
) -> None:
    """Print the catalog by what fits each pod now, or an idle machine; without either, print all of it."""
    known_models, known_prices = catalog.load(config.config_dir()), kept_prices.load()

    def offered(facts: PodFacts | None) -> tuple[Offer, ...]:
        found = offers.offers(known_models, facts, words, facts.prices if facts else known_prices)
        return found or ((offers.possibly(words),) if "/" in words else ())

    if len(pods.pods) > 1:
        return _show_several(c, pods, lambda facts: offered(replace(facts, prices=known_prices)), everything, as_json)
    asked = group.ask(c, pods, _facts) if pods.pods else []
    group.raise_failed(asked)
    of_machine = unrented.facts_of(machine, known_models) if machine else None
    of_pod = next((replace(each.answer, prices=known_prices) for each in asked if each.answer), None)
    found = offered(of_machine or of_pod)
    if as_json:
        screen.say_json([offer.as_json() for offer in found])
        return
    _show_groups(found, everything or not (of_machine or of_pod) or bool(words))
    if not found:
        screen.say(f"no model in the catalog matches {words!r}")
    if machine and of_machine:
        screen.say(_next_on(machine, of_machine))
        return
    _show_next(known_models)
    if of_pod is None:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')


def _show_several(
    c: Any,
    pods: where.Chosen,
    offered: Callable[[PodFacts], tuple[Offer, ...]],
    everything: bool,
    as_json: bool,
) -> None:
    asked = group.ask(c, pods, lambda pod, connection: offered(_facts(pod, connection)))
    if as_json:
        found = [
            {
                "pod": each.pod.name,
                "error": group.error_json(each.error),
                "models": [offer.as_json() for offer in each.answer or ()],
            }
            for each in asked
        ]
        screen.say_json({"pods": found})
    for each in [] if as_json else asked:
        if each.answer is not None:
            screen.say(f"{each.pod.name}:")
            _show_groups(each.answer, everything)
    group.raise_failed(asked)


def _show_groups(found: Sequence[Offer], everything: bool) -> None:
    for kind in TITLES:
        _show_group(kind, [offer for offer in found if offer.state == kind], everything)


def _show_next(known_models: catalog.Catalog) -> None:
    screen.say("start one: pi start MODEL --name NAME")
    screen.say("other Hugging Face models and paths on the pod may work too")
    screen.say(catalog_refresh.age(known_models.date, date.today()))


def _next_on(machine: Machine, facts: PodFacts) -> str:
    price = prices.per_hour(facts.prices, machine.kind, machine.count)
    assumed = f"{prices.with_price(machine.title, price)}, idle, with vLLM {facts.vllm_version}"
    return f'planned for {assumed}; one plan: pi plan MODEL --on "{machine.title}"'


def _facts(pod: Pod, connection: Connection) -> PodFacts:
    """Return what is true of a pod now; print which GPUs it lost."""
    facts = look(connection)
    if gpus.is_silent(facts.unread_gpus) and pod.gpus:
        refusals.require_gpus(pod.name, pod.gpus, facts)
    for line in gpus.lost(pod.gpus, facts.gpus, facts.unread_gpus):
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
    memory = "GB TOTAL" if kind == offers.MORE else "GB EACH"
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
