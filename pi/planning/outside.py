"""Models outside the catalog as entries of it: made from their files, their family and their name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pi.model_id import ModelId
from pi.planning import families, name_size
from pi.planning.catalog import ModelSpec, Tuning, Variant
from pi.planning.config_caches import heads_of
from pi.planning.config_reader import read_network, text_model
from pi.planning.manners import POOLING, Manners, manners
from pi.planning.placement import choose
from pi.planning.room import SHARE, groups
from pi.planning.sizes import UNKNOWN, Size
from pi.planning.types import PodFacts, Request

ONLY = "files"
"""Name of the single variant of such a model."""

STEP = 0.05
"""Shares of a GPU's memory that pi tries for a model that needs little."""


@dataclass(frozen=True)
class Outsider:
    """A model outside the catalog. `sized` is false if nothing tells its size."""

    spec: ModelSpec
    manners: Manners
    sized: bool
    estimated: bool

    @property
    def why(self) -> str:
        family = f", family {self.manners.family.name} by {self.manners.found}" if self.manners.family else ""
        return f"{self.spec.id} is not in the catalog{family}"


def outsider(request: Request, facts: PodFacts, sizes: Mapping[str, Size]) -> Outsider:
    """Return what is known of a model outside the catalog; `sizes` are those that others measured, by id."""
    made = manners(request.model, facts.model_card)
    config = facts.config or {}
    network = read_network(config)
    listed = families.load().served(request.model)
    measured_gb = facts.weights_bytes / 1e9 if facts.weights_bytes else None
    weights_gb = measured_gb or _listed_gb(request.model, made, sizes) or 0.0
    variant = Variant(
        name=ONLY,
        id=request.model,
        precision=(network and network.precision) or name_size.precision_in(request.model),
        weights_gb=round(weights_gb, 2),
        minimum_gb=0.0,
    )
    spec = ModelSpec(
        id=request.model,
        title=request.model,
        family=made.family.name if made.family else "",
        parameters_b=name_size.billions_in(request.model) or 0.0,
        context=network.context if network else listed.context if listed else None,
        variants=(variant,),
        tools=made.tools,
        reasoning=made.reasoning,
        api=_api(made),
        experts=bool(network and network.experts),
        routed=network.experts if network else 0,
        heads=heads_of(text_model(config)) or None,
        layers=network.groups if network else (),
        hidden=network.hidden if network else None,
        vocabulary=network.vocabulary if network else None,
        trust_remote_code=made.code,
        tuning=Tuning(made.args),
        packages=made.packages,
        multimodal=bool(network and network.multimodal),
    )
    return Outsider(spec, made, bool(weights_gb), measured_gb is None)


def _listed_gb(model: ModelId, made: Manners, sizes: Mapping[str, Size]) -> float | None:
    """Return the weights in 10^9 bytes by the list of measured checkpoints, or by the name if its family is known."""
    listed = sizes.get(model.lower(), UNKNOWN).weights_gb
    return listed or (name_size.estimated_gb(model) if made.family and not model.is_path else None)


def smaller(spec: ModelSpec, sizes: Mapping[str, Size]) -> tuple[Variant, ...]:
    """Return the known checkpoints of such a model in formats with fewer bits, the largest first."""
    [whole] = spec.variants
    begin = f"{spec.id.lower()}-"
    found = [
        Variant(name=ONLY, id=ModelId(each), precision=name_size.precision_in(each), weights_gb=size, minimum_gb=0.0)
        for each in families.load().ids
        if each.lower().startswith(begin)
        and (size := sizes.get(each.lower(), UNKNOWN).weights_gb or name_size.estimated_gb(each))
        and size < whole.weights_gb
        and name_size.precision_in(each) != name_size.precision_in(spec.id)
    ]
    return tuple(sorted(found, key=lambda variant: -variant.weights_gb))


def _api(made: Manners) -> str:
    """Return the API for `pi prompt`: gpt-oss has tools and reasoning in the responses API."""
    return "responses" if made.tools == "openai" else made.kind


def spread(spec: ModelSpec, facts: PodFacts) -> ModelSpec:
    """Return a model with the way in which several pods share it: in stages, if vLLM can split it so."""
    return replace(spec, spans="pipeline" if spec.pipeline else "tensor") if facts.nodes > 1 else spec


def modest(spec: ModelSpec, request: Request, facts: PodFacts) -> ModelSpec:
    """Return a pooling or transcription model with the share that holds it and its whole context, and one step more.

    Such models need little, and a chat model may run next to them.
    """
    if spec.api not in (*POOLING, "transcription") or request.memory is not None:
        return spec
    kinds, small = groups(facts), replace(request, gpus=request.gpus or 1)
    for step in range(2, round(SHARE / STEP)):
        fit = choose(spec, spec.variants, replace(small, memory=round(step * STEP, 2)), kinds, facts.nodes)
        if fit is not None and fit.reaches(spec.context or 0, spec.context):
            return replace(spec, tuning=replace(spec.tuning, share=round((step + 1) * STEP, 2)))
    return spec
