"""Facts about models, read from models.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning import catalog_values, drafts, sizes
from pi.planning.catalog_files import SHIPPED as SHIPPED
from pi.planning.catalog_files import is_there, merged, newest
from pi.planning.catalog_files import parsed as parsed
from pi.planning.catalog_files import read_toml as read_toml
from pi.planning.drafts import Draft
from pi.planning.network import USUAL_VOCABULARY, Layers, Network, usual_hidden
from pi.planning.sizes import Size
from pi.planning.split import Split
from pi.vllm.arguments import Arguments
from pi.vllm.versions import latest

BYTES_PER_PARAMETER = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "mxfp8": 1.04,
    "nvfp4": 0.6,
    "mxfp4": 0.55,
    "int4": 0.57,
}
"""Estimated bytes per parameter if nobody has measured a checkpoint's files. Real sizes differ by up to 80 %, because
many 4-bit checkpoints keep attention and embeddings in 16 bit."""

RECIPE_FACTOR = 1.2
"""GPU memory of a pod that vLLM's recipes name, as a multiple of the weights."""


@dataclass(frozen=True)
class Tuning:
    """Settings of a model, everywhere or on one kind of hardware.

    `context` limits the tokens and `share` the part of a GPU's memory, if the recipe sets them.
    """

    args: Arguments = field(default_factory=Arguments)
    env: Mapping[str, str] = field(default_factory=dict)
    context: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class Layout:
    """A tested split on some GPUs; it may need less than the recipe's minimum."""

    gpus: int
    on: tuple[str, ...]
    tensor: int
    pipeline: int = 1
    data: int = 1
    expert: bool = False
    tuning: Tuning = field(default_factory=Tuning)
    note: str = ""

    @property
    def split(self) -> Split:
        return Split(self.tensor, self.pipeline, self.data, self.expert)


@dataclass(frozen=True)
class Variant:
    """One checkpoint of a model: the same network in one number format.

    `weights_gb` are in 10^9 bytes, `estimated` if nobody has measured the files. `minimum_gb` is the memory of all GPUs
    that its recipe names; it informs, the memory sum decides. `tensor` limits the tensor-parallel size. `on` names the
    hardware if it is limited. `min_vllm` is the first vLLM release that serves it; "nightly" means none yet.
    """

    name: str
    id: ModelId
    precision: str
    weights_gb: float
    minimum_gb: float
    tensor: int | None = None
    on: tuple[str, ...] = ()
    min_vllm: str | None = None
    tuning: Tuning = field(default_factory=Tuning)
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    layouts: tuple[Layout, ...] = ()
    checked: str = ""
    """How it was checked on vLLM: "" (not at all), "parsed" (its arguments), "run" (it answered)."""
    estimated: bool = False
    draft: Draft | None = None

    def drafting(self, wanted: bool | None, labels: frozenset[str]) -> Draft | None:
        """Return the draft to use on this hardware: as the user wants, or as the catalog recommends (None)."""
        if self.draft is None or not self.draft.args_on(labels).items:
            return None
        return self.draft if wanted or (wanted is None and self.draft.default) else None


@dataclass(frozen=True)
class ModelSpec:
    """Facts about one model; the default variant comes first."""

    id: ModelId
    title: str
    family: str
    parameters_b: float
    context: int | None
    variants: tuple[Variant, ...]
    active_b: float | None = None
    min_vllm: str | None = None
    max_vllm: str | None = None
    """Last vLLM release that serves it."""
    tools: str | None = None
    """Name of vLLM's tool-call parser."""
    reasoning: str | None = None
    """Name of vLLM's reasoning parser."""
    api: str = "chat"
    experts: bool = False
    """Whether it is a mixture of experts."""
    routed: int = 0
    """Experts of a layer; 0: unknown, or none."""
    heads: int | None = None
    layers: tuple[Layers, ...] = ()
    """Groups of alike layers; empty if unknown."""
    depth: int = 0
    """Blocks of the decoder; 0: one for each of the layers."""
    hidden: int | None = None
    vocabulary: int | None = None
    vision_gib: float | None = None
    """Memory that vLLM needs to profile the vision tower, if it is not the usual."""
    spans: str | None = None
    """How its recipe spreads it over several pods: "pipeline", "tensor" or "data" parallel. pi does the first two."""
    data_parallel: bool = False
    """Whether its recipe replicates the attention and distributes the experts."""
    pipeline: bool = True
    """Whether vLLM can split its layers into pipeline stages (`SupportsPP` of its class)."""
    capability: tuple[int, int] = (0, 0)
    """Lowest compute capability that serves it: by its attention's kernels, or because it needs BF16."""
    trust_remote_code: bool = False
    tuning: Tuning = field(default_factory=Tuning)
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """Packages to install in addition to vLLM, as pip requirements."""
    verified: tuple[str, ...] = ()
    """Names of the hardware on which its recipe was run."""
    notes: str = ""
    source: str = ""
    multimodal: bool = False
    text_only: bool = False
    """Whether its recipe serves it without the encoders for images and sound."""
    chat_template: str = ""
    """File in vLLM's examples that its recipe uses; no package of vLLM contains it."""

    @cached_property
    def network(self) -> Network:
        """What determines its memory; pi estimates a width that the catalog does not state."""
        return Network(
            groups=self.layers,
            heads=self.heads or 0,
            hidden=self.hidden or usual_hidden(self.parameters_b, self.experts),
            vocabulary=self.vocabulary or USUAL_VOCABULARY,
            experts=self.routed or int(self.experts),
            context=self.context,
            multimodal=self.multimodal,
            depth=self.depth,
        )

    def variant(self, name: str) -> Variant | None:
        """Return the variant with this name or id."""
        wanted = name.lower()
        return next((v for v in self.variants if wanted in (v.name.lower(), v.id.lower())), None)


@dataclass(frozen=True)
class Catalog:
    """All known models, in the file's order.

    `sizes` has the measured checkpoints, also of other models, by id in lower case. `date` is the day of its facts.
    """

    models: tuple[ModelSpec, ...]
    sizes: Mapping[str, Size] = field(default_factory=dict)
    date: str | None = None

    @cached_property
    def _by_id(self) -> dict[str, tuple[ModelSpec, Variant]]:
        by_id: dict[str, tuple[ModelSpec, Variant]] = {}
        for spec in self.models:
            for variant in reversed(spec.variants):
                by_id[variant.id.lower()] = spec, variant
        return by_id | {spec.id.lower(): (spec, spec.variants[0]) for spec in self.models}

    def find(self, model: str) -> tuple[ModelSpec, Variant] | None:
        """Return the model and checkpoint with this Hugging Face id, ignoring case."""
        return self._by_id.get(model.lower())

    def similar(self, name: str) -> str | None:
        """Return the id of a checkpoint with this name and any owner, ignoring case."""
        ending = f"/{name.lower()}"
        return next((variant.id for _, variant in self._by_id.values() if variant.id.lower().endswith(ending)), None)

    def search(self, words: str) -> tuple[ModelSpec, ...]:
        """Return the models whose id, title or family contains every word."""
        parts = words.lower().split()
        return tuple(m for m in self.models if all(part in f"{m.id} {m.title} {m.family}".lower() for part in parts))


def load(config_dir: Path | None = None) -> Catalog:
    """Read pi's catalog, or a newer one in the config directory, with the keys of its models.toml over it.

    Raises InputError with the file and the entry that cannot be read.
    """
    own = config_dir / "models.toml" if config_dir else None
    if own is None or not is_there(own):
        return load_without_own(config_dir)
    return read(merged(read_toml(newest(config_dir)), read_toml(own)), str(own))


def load_without_own(config_dir: Path | None) -> Catalog:
    """Read pi's catalog, or a newer one in the config directory. Raises InputError if it cannot be read."""
    file = newest(config_dir)
    return _shipped() if file == SHIPPED else read(read_toml(file), str(file))


@cache
def _shipped() -> Catalog:
    return read(read_toml(SHIPPED))


def read(tables: Mapping[str, Any], source: str = "models.toml") -> Catalog:
    """Read a catalog from tables. Raises InputError with `source` and the entry that cannot be read."""
    families, entry = tables.get("family", {}), "sizes"
    models = []
    try:
        known = sizes.read(tables.get("sizes", {}))
        for name, table in tables.get("model", {}).items():
            entry = f"model {name}"
            models.append(_model(name, families.get(table.get("family"), {}), table, known))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InputError(
            "catalog-entry-invalid",
            f"{source}: {entry}: {_text(problem)}",
            "the top of models.toml describes the format",
        ) from None
    date = tables.get("date")
    return Catalog(tuple(models), known, date if isinstance(date, str) else None)


def _text(problem: Exception) -> str:
    return f"{problem.args[0]!r} is missing" if isinstance(problem, KeyError) else str(problem)


_MODEL_KEYS = frozenset([
    "family", "title", "parameters", "active", "checked", "context", "floor", "ceiling", "tools", "reasoning", "api",
    "experts", "heads", "layers", "depth", "hidden", "vocabulary", "vision_gib",
    "spans", "data_parallel", "trust_remote_code", "args", "env", "on", "packages", "pipeline", "capability",
    "verified", "notes", "source", "multimodal", "variants", "share", "draft", "text_only", "chat_template",
])  # fmt: skip

_VARIANT_KEYS = frozenset([
    "id", "precision", "weights_gb", "minimum_gb", "tensor", "only", "floor", "args", "env", "context", "share", "on",
    "layouts", "checked", "estimated", "draft",
])  # fmt: skip

_TUNING_KEYS = frozenset(["args", "env", "context", "share"])

_UNTUNED = Tuning()

_LAYOUT_KEYS = _TUNING_KEYS | frozenset(["gpus", "on", "tensor", "pipeline", "data", "expert", "note"])


def _model(name: str, family: Mapping[str, Any], table: Mapping[str, Any], known: Mapping[str, Size]) -> ModelSpec:
    facts = merged(dict(family), dict(table))
    catalog_values.check_keys(facts, _MODEL_KEYS)
    variants = tuple(_variant(key, name, facts, value, known) for key, value in facts["variants"].items())
    if not variants:
        raise ValueError("it does not have a variant")
    return ModelSpec(
        id=ModelId(name),
        title=facts.get("title") or name.rpartition("/")[2],
        family=facts.get("family", ""),
        parameters_b=float(facts["parameters"]),
        active_b=facts.get("active"),
        context=facts.get("context"),
        variants=variants,
        min_vllm=catalog_values.min_vllm(facts),
        max_vllm=catalog_values.release(facts.get("ceiling")),
        tools=facts.get("tools") or None,
        reasoning=facts.get("reasoning") or None,
        api=facts.get("api", "chat"),
        experts=facts.get("experts", False),
        heads=facts.get("heads"),
        layers=tuple(catalog_values.layers(group) for group in facts.get("layers", ())),
        depth=catalog_values.size("depth", facts.get("depth", 0)),
        hidden=facts.get("hidden"),
        vocabulary=facts.get("vocabulary"),
        vision_gib=facts.get("vision_gib"),
        spans=facts.get("spans") or None,
        data_parallel=facts.get("data_parallel", False),
        pipeline=facts.get("pipeline", True),
        capability=catalog_values.capability(facts.get("capability", "0.0")),
        trust_remote_code=facts.get("trust_remote_code", False),
        tuning=Tuning(Arguments.parse(facts.get("args", ())), facts.get("env", {}), None, facts.get("share")),
        tunings=_tunings(facts.get("on", {})),
        packages=tuple(map(catalog_values.requirement, facts.get("packages", ()))),
        verified=tuple(facts.get("verified", ())),
        notes=facts.get("notes", ""),
        source=facts.get("source", ""),
        multimodal=facts.get("multimodal", False),
        text_only=facts.get("text_only", False),
        chat_template=facts.get("chat_template", ""),
    )


def _variant(
    name: str, model: str, facts: Mapping[str, Any], table: Mapping[str, Any], known: Mapping[str, Size]
) -> Variant:
    catalog_values.check_keys(table, _VARIANT_KEYS)
    precision, model_id = table["precision"], ModelId(table.get("id", model))
    size = known.get(model_id.lower(), sizes.UNKNOWN)
    measured = table.get("weights_gb", size.weights_gb)
    weights_gb = float(measured or round(float(facts["parameters"]) * BYTES_PER_PARAMETER[precision], 2))
    minimum_gb = table.get("minimum_gb", size.minimum_gb)
    draft = table.get("draft", facts.get("draft"))
    return Variant(
        name=name,
        id=model_id,
        precision=precision,
        weights_gb=weights_gb,
        minimum_gb=float(minimum_gb or round(weights_gb * RECIPE_FACTOR, 1)),
        tensor=table.get("tensor"),
        on=tuple(table.get("only", ())),
        min_vllm=latest((catalog_values.min_vllm(table), facts.get("floor"))),
        tuning=_tuning(table),
        tunings=_tunings(table.get("on", {})),
        layouts=tuple(_layout(row) for row in table.get("layouts", ())),
        checked=table.get("checked", facts.get("checked", "")),
        estimated=table.get("estimated", measured is None),
        draft=drafts.read(draft, model, weights_gb, known) if draft else None,
    )


def _layout(table: Mapping[str, Any]) -> Layout:
    catalog_values.check_keys(table, _LAYOUT_KEYS)
    data, pipeline, gpus = table.get("data", 1), table.get("pipeline", 1), table["gpus"]
    tensor = table.get("tensor", gpus // (data * pipeline))
    if tensor * data * pipeline != gpus:
        raise ValueError(f"a layout of {gpus} GPUs cannot split into {tensor} x {pipeline} x {data}")
    return Layout(
        gpus=gpus,
        on=tuple(table["on"]),
        tensor=tensor,
        pipeline=pipeline,
        data=data,
        expert=table.get("expert", False),
        tuning=_tuning(table),
        note=table.get("note", ""),
    )


def _tunings(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Tuning]:
    for table in tables.values():
        catalog_values.check_keys(table, _TUNING_KEYS)
    return {hardware: _tuning(table) for hardware, table in tables.items()}


def _tuning(table: Mapping[str, Any]) -> Tuning:
    if table.keys().isdisjoint(_TUNING_KEYS):
        return _UNTUNED
    args = Arguments.parse(table.get("args", ()))
    return Tuning(args, table.get("env", {}), table.get("context"), table.get("share"))
