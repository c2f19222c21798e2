"""`pi models` and `pi plan`: what a pod can serve, and what a start would do, with nothing touched."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from pi import screen, state
from pi.fabric_tasks.verb import verb

if TYPE_CHECKING:
    from pi.offers import Offer
    from pi.plans import LaunchPlan, PodFacts, Request
    from pi.state import Pod


@verb(
    "[words...]",
    "[WORDS...] [--pod P] [--all] [--json]",
    iterable=["words"],
    name="models",
    details={
        "words": "only models whose names hold all of them",
        "pod": "the pod to look at instead of the active one",
        "all_": "also those that need a larger pod",
        "json": "as JSON",
    },
)
def models(
    c: Any, words: list[str] | None = None, pod: str | None = None, all_: bool = False, json: bool = False
) -> None:
    """List the models that pi knows: what fits the pod now, what fits when something stops, what needs more."""
    show_offers(c, pod, " ".join(words or ()), everything=all_, as_json=json)


def show_offers(c: Any, pod: str | None, words: str = "", *, everything: bool = False, as_json: bool = False) -> None:
    """The catalog held against the pod as it is now; without any pod, against no pod at all."""
    from pi import catalog, gpus, offers

    facts = None
    if pod or state.load().pods:
        place, facts = _facts(c, pod)
        for line in gpus.lost(place.gpus, facts.gpus, facts.unread_gpus):
            screen.note(f"warning: {line}")
    found = offers.offers(catalog.load(state.config_dir()), facts, words)
    if not found and "/" in words:
        found = (offers.possibly(words),)
    if as_json:
        import json

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
            memory = "GIB IN ALL" if kind == offers.MORE else "GIB EACH"
            screen.table([_row(offer) for offer in shown], ("MODEL", "AS", "GPUS", memory, "CONTEXT", "NEEDS"))
            screen.say()
        elif shown:
            screen.say(f"{len(shown)} more need a larger pod: pi models --all")
    if not found:
        screen.say(f"the catalog has no model called {words!r}")
    screen.say(
        "start one: pi start MODEL --name NAME; other Hugging Face models, and paths on the pod, possibly work too"
    )
    if facts is None:
        screen.say('no pods yet; add one: pi pods setup NAME "ssh root@HOST"')


def show_plan(c: Any, pod: str | None, request: Request, private: bool = False) -> None:
    """Print the plan for a request on the pod as it is now."""
    from pi import catalog, planner, refusals

    known = catalog.load(state.config_dir())
    place, facts = _facts(c, pod, request.model, ask_hub=known.find(request.model) is None)
    refusals.require_gpus(place.name, place.gpus, facts)
    for line in plan_lines(planner.plan(request, facts, known), facts, request, place.name, private):
        screen.say(line)


def plan_lines(plan: LaunchPlan, facts: PodFacts, request: Request, pod: str, private: bool = False) -> list[str]:
    """A plan in words: the command and environment whole, the sum, the reasons, the download."""
    from pi import hub, remote, venvs

    environment, words = remote.server(plan, private)
    lines = [f"PATH=~/{plan.venv}/bin:$PATH"] + [f"{key}={shlex.quote(value)}" for key, value in environment.items()]
    lines += [shlex.join(words), ""]
    lines.append(f"port      {plan.port}")
    lines.append(f"GPUs      {','.join(map(str, plan.gpus)) or 'none (CPU)'}")
    if plan.context:
        lines.append(f"context   {plan.context} tokens")
    if plan.memory:
        lines.append(f"memory    {plan.memory.render()}; {plan.memory.free_gib:.1f} GiB are free")
    if not hub.is_path(plan.model):
        lines.append(f"download  {_download(plan, facts, request.model)}")
    if plan.vllm_floor:
        wanted = venvs.wanted(plan.vllm_floor).removeprefix("vLLM ")
        lines.append(f"vLLM      {wanted}; ~/{plan.venv} has {plan.vllm_version or 'none'}")
    if plan.packages:
        how = f"pi pods setup {pod} --for {shlex.quote(plan.model)} installs what is missing"
        lines.append(f"packages  {' '.join(plan.packages)}; {how}")
    lines += [f"because   {reason}" for reason in plan.why]
    lines += [f"note      {warning}" for warning in plan.warnings]
    refusal = venvs.refusal(plan, facts, pod)
    return [*lines, f"refused   {refusal.message}; {refusal.hint}"] if refusal else lines


def _download(plan: LaunchPlan, facts: PodFacts, asked: str) -> str:
    """What is to be fetched, and whether the disk has room for it."""
    if facts.model_at == "cached" and plan.model == asked:
        return "none, its weights are on the pod"
    free_gib = facts.disk_free_gib
    size = f"{plan.download_gb:.3g} GB" if plan.download_gb else "of unknown size,"
    words = f"{size} if it is not on the pod yet"
    if free_gib is None:
        return words
    few = ", too few" if plan.download_gb and plan.download_gb * 1e9 > free_gib * 2**30 else ""
    return f"{words}; {free_gib:.0f} GiB of disk are free{few}"


def _facts(c: Any, pod: str | None, model: str | None = None, *, ask_hub: bool = False) -> tuple[Pod, PodFacts]:
    from pi import remote
    from pi.fabric_tasks import target as targets

    with targets.targeted(c, pod) as (place, link):
        return place, remote.look(link, model, ask_hub=ask_hub)


def _row(offer: Offer) -> tuple[object, ...]:
    where = f"{offer.gpus}x {offer.kind}" if offer.gpus else offer.kind or "-"
    size = "-" if offer.gib is None else f"{offer.gib:g}"
    context = "-" if offer.context is None else f"{offer.context // 1024}k"
    return offer.model, offer.precision or "-", where, size, context, offer.needs
