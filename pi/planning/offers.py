"""List which models of the catalog fit a pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pi.errors import InputError
from pi.planning import cpu, hardware, prices, venvs
from pi.planning.amounts import card_gb
from pi.planning.catalog import Catalog, ModelSpec, Variant
from pi.planning.placement import Fit, choose
from pi.planning.room import SHARED, Group, gpu_users, groups, idle, slots, without
from pi.planning.smallest_pods import smallest_pods
from pi.planning.types import PodFacts, Request
from pi.vllm import versions

FITS, BUSY, MORE, POSSIBLE = "fits", "busy", "more", "possible"
"""States of an offer: fits now, fits if a model stops, needs a larger pod, may fit (outside the catalog)."""


@dataclass(frozen=True)
class Offer:
    """One model on one pod. `model` is the id to start, `serves` the checkpoint that vLLM loads.

    `gpus` is the number of GPUs and `gib` the memory on each (for MORE, on all together). `context` is in tokens, None
    if only vLLM can tell. `needs` names models to stop, or pods that are large enough. `price_per_hour` is that of
    the GPUs, None if the user keeps no price for them.
    """

    model: str
    title: str
    state: str
    serves: str | None = None
    precision: str | None = None
    gpus: int = 0
    kind: str = ""
    gib: float | None = None
    context: int | None = None
    needs: str = ""
    checked: str = ""
    price_per_hour: float | None = None
    min_vllm: str | None = None

    def as_json(self) -> dict[str, Any]:
        fields = asdict(self)
        fields["floor"] = fields.pop("min_vllm")
        return fields


def offers(
    catalog: Catalog, facts: PodFacts | None, words: str = "", kept_prices: Mapping[str, float] | None = None
) -> tuple[Offer, ...]:
    """List the models whose names contain all `words`, those that fit now first.

    Without a pod (`facts` is None), list each model with the smallest pods that hold it, and their prices.
    """
    if facts is None:
        nowhere = PodFacts((), prices=kept_prices or {})
        listed = [_offer(spec, nowhere) for spec in catalog.search(words)]
    else:
        listed = _on(catalog, facts, words)
    order = (FITS, BUSY, MORE)
    return tuple(sorted(listed, key=lambda offer: order.index(offer.state)))


def possibly(model: str) -> Offer:
    """Return the offer for a model outside the catalog."""
    return Offer(model, model, POSSIBLE, needs="not in the catalog: pi start plans it by its files")


def _on(catalog: Catalog, facts: PodFacts, words: str) -> list[Offer]:
    now, later = groups(facts), _later(facts)
    listed = []
    for spec in catalog.search(words):
        variants = venvs.served(spec.variants, facts, spec.max_vllm)
        offer = _cpu_offer(spec, variants, facts) if facts.is_cpu else _gpu_offer(spec, variants, facts, now, later)
        listed.append(_on_vllm(offer, spec, facts))
    return listed


def _on_vllm(offer: Offer, spec: ModelSpec, facts: PodFacts) -> Offer:
    """Change the offer to MORE if no vLLM of the pod serves the model."""
    _, version = venvs.choose(facts, offer.min_vllm, spec.max_vllm)
    if spec.max_vllm and versions.too_old(spec.max_vllm, version):
        return replace(offer, state=MORE, needs=f"{venvs.at_most(spec.max_vllm)}; the pod has {version}")
    if offer.state != MORE and offer.min_vllm and versions.too_old(version, offer.min_vllm):
        return replace(offer, state=MORE, needs=f"{venvs.at_least(offer.min_vllm)}; the pod has {version}")
    return offer


def _later(facts: PodFacts) -> list[tuple[str, tuple[Group, ...]]]:
    """Return what makes room on the pod, smallest step first, with its GPUs after that; nothing on an idle pod."""
    if all(slot.open >= SHARED for slot in slots(facts)):
        return []
    names = gpu_users(facts)
    steps = [(f"stop {name}", without(facts, name)) for name in names]
    if len(names) > 1:
        steps.append((f"stop more than one of {', '.join(names)}", without(facts, *names)))
    steps.append(("other processes use the GPUs", idle(facts)))
    return [(needs, groups(then)) for needs, then in steps]


def _gpu_offer(
    spec: ModelSpec,
    variants: tuple[Variant, ...],
    facts: PodFacts,
    now: tuple[Group, ...],
    later: list[tuple[str, tuple[Group, ...]]],
) -> Offer:
    request = Request(spec.id, "x")
    fit = choose(spec, variants, request, now, facts.nodes)
    if fit is not None:
        return _fitting(spec, fit, FITS, facts)
    if later and choose(spec, variants, request, later[-1][1], facts.nodes) is not None:
        for needs, then in later:
            fit = choose(spec, variants, request, then, facts.nodes)
            if fit is not None:
                return _fitting(spec, fit, BUSY, facts, needs)
    return _offer(spec, facts)


def _fitting(spec: ModelSpec, fit: Fit, state: str, facts: PodFacts, needs: str = "") -> Offer:
    gpu = fit.slots[0].gpu
    return Offer(
        model=spec.id,
        title=spec.title,
        state=state,
        serves=fit.variant.id,
        precision=fit.variant.precision,
        gpus=len(fit.slots),
        kind=gpu.name,
        gib=round(fit.memory.needed_gib, 1),
        context=fit.memory.context or spec.context,
        needs=needs,
        checked=fit.variant.checked,
        price_per_hour=prices.per_hour(facts.prices, hardware.kind(gpu), len(fit.slots) * facts.nodes),
        min_vllm=fit.variant.min_vllm,
    )


def _offer(spec: ModelSpec, facts: PodFacts) -> Offer:
    """Return the offer of a model that needs a larger pod, with its smallest checkpoint."""
    variant = min(spec.variants, key=lambda variant: variant.minimum_gb)
    pods = smallest_pods(spec, facts.gpus, facts.prices)
    return Offer(
        model=spec.id,
        title=spec.title,
        state=MORE,
        serves=variant.id,
        precision=variant.precision,
        gib=round(variant.minimum_gb * 1e9 / 1024**3, 1),
        context=spec.context,
        needs=" or ".join(pods) if pods else f"{card_gb(variant.minimum_gb)} GB of GPU memory, more than 8 GPUs have",
        checked=variant.checked,
        min_vllm=variant.min_vllm,
    )


def _cpu_offer(spec: ModelSpec, variants: tuple[Variant, ...], facts: PodFacts) -> Offer:
    try:
        plan, variant, _ = cpu.catalog_plan(Request(spec.id, "x"), facts, spec, variants)
    except InputError:
        return _offer(spec, facts)
    return Offer(
        model=spec.id,
        title=spec.title,
        state=FITS,
        serves=variant.id,
        precision=variant.precision,
        kind="CPU",
        gib=round(variant.weights_gb * 1e9 / 1024**3 + cpu.PROCESSES_GIB, 1),
        context=plan.context,
        checked=variant.checked,
        min_vllm=variant.min_vllm,
    )
