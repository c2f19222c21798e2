"""What a pod can serve: every model of the catalog that fits now, fits when something stops, or needs more."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from pi.errors import InputError
from pi.planning import cpu, venvs
from pi.planning.catalog import Catalog, ModelSpec, Variant
from pi.planning.placement import Fit, choose
from pi.planning.refusals import in_use_by, pods_for
from pi.planning.room import Group, groups, idle, without
from pi.planning.types import PodFacts, Request
from pi.vllm import versions

FITS, BUSY, MORE, POSSIBLE = "fits", "busy", "more", "possible"
"""An offer's state: now, when a model stops, on a larger pod only, or (outside the catalog) who knows."""


@dataclass(frozen=True)
class Offer:
    """One model on one pod. `model` is the id to start; `serves` the checkpoint that vLLM would load.

    `gpus` counts the GPUs that it would get, `gib` what it takes of each (of all together, where it needs more),
    `context` is in tokens (None where vLLM alone finds out). `needs` says what is missing: models to stop, or pods
    that hold it.
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
    floor: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def offers(catalog: Catalog, facts: PodFacts | None, words: str = "") -> tuple[Offer, ...]:
    """The models whose names hold all `words`: those that fit now, then when something stops, then not here.

    Without a pod (`facts` None) every model is listed with the smallest pods that hold it.
    """
    found = [_offer(spec, facts) for spec in catalog.search(words)] if facts is None else _on(catalog, facts, words)
    order = (FITS, BUSY, MORE)
    return tuple(sorted(found, key=lambda offer: order.index(offer.state)))


def possibly(model: str) -> Offer:
    """The offer for a model outside the catalog: it possibly works."""
    return Offer(model, model, POSSIBLE, needs="not in the catalog: pi start gives it one GPU unless you say --gpus")


def _on(catalog: Catalog, facts: PodFacts, words: str) -> list[Offer]:
    now, later = groups(facts), _later(facts)
    found = []
    for spec in catalog.search(words):
        variants = venvs.served(spec.variants, facts, spec.ceiling)
        if facts.device == "cpu":
            offer = _cpu_offer(spec, variants, facts)
        else:
            offer = _gpu_offer(spec, variants, facts, now, later)
        found.append(_on_vllm(offer, spec, facts))
    return found


def _on_vllm(offer: Offer, spec: ModelSpec, facts: PodFacts) -> Offer:
    """The offer, which is none for now where no vLLM of the pod serves the model."""
    _, version = venvs.choose(facts, offer.floor, spec.ceiling)
    if versions.too_old(spec.ceiling, version):
        return replace(offer, state=MORE, needs=f"vLLM {spec.ceiling} or older; the pod has {version}")
    if offer.state != MORE and offer.floor and versions.too_old(version, offer.floor):
        return replace(offer, state=MORE, needs=f"{venvs.wanted(offer.floor)}; the pod has {version}")
    return offer


def _later(facts: PodFacts) -> list[tuple[str, tuple[Group, ...]]]:
    """What would make room on the pod, in words, the least first, and its GPUs then."""
    names = in_use_by(facts)
    steps = [(f"stop {name}", without(facts, name)) for name in names]
    if len(names) > 1:
        steps.append((f"stop more than one of {', '.join(names)}", without(facts, *names)))
    steps.append(("other processes hold the GPUs", idle(facts)))
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
        return _fitting(spec, fit, FITS)
    if choose(spec, variants, request, later[-1][1], facts.nodes) is not None:
        for needs, then in later:
            fit = choose(spec, variants, request, then, facts.nodes)
            if fit is not None:
                return _fitting(spec, fit, BUSY, needs)
    return _offer(spec, facts)


def _fitting(spec: ModelSpec, fit: Fit, state: str, needs: str = "") -> Offer:
    return Offer(
        model=spec.id,
        title=spec.title,
        state=state,
        serves=fit.variant.id,
        precision=fit.variant.precision,
        gpus=len(fit.slots),
        kind=fit.slots[0].gpu.name,
        gib=round(fit.memory.needed_gib, 1),
        context=fit.memory.context or spec.context,
        needs=needs,
        checked=fit.variant.checked,
        floor=fit.variant.floor,
    )


def _offer(spec: ModelSpec, facts: PodFacts | None) -> Offer:
    """A model with the smallest pods that hold it, and with its lightest checkpoint."""
    variant = min(spec.variants, key=lambda variant: variant.minimum_gb)
    pods = pods_for(spec, spec.variants, facts.gpus if facts else ())
    return Offer(
        model=spec.id,
        title=spec.title,
        state=MORE,
        serves=variant.id,
        precision=variant.precision,
        gib=round(variant.minimum_gb * 1e9 / 1024**3, 1),
        context=spec.context,
        needs=" or ".join(pods) if pods else f"{variant.minimum_gb:g} GB of GPU memory, more than one pod of 8",
        checked=variant.checked,
        floor=variant.floor,
    )


def _cpu_offer(spec: ModelSpec, variants: tuple[Variant, ...], facts: PodFacts) -> Offer:
    try:
        plan, variant, _ = cpu.known(Request(spec.id, "x"), facts, spec, variants, 0)
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
        floor=variant.floor,
    )
