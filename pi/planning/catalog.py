"""models.toml: facts about models and hardware, as typed values."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from pi.errors import InputError
from pi.planning.estimate import Attention, Split
from pi.vllm.versions import NIGHTLY, latest

SHIPPED = Path(__file__).parents[1] / "models.toml"
"""The catalog: a link to the top level's models.toml in a checkout, its copy in a wheel."""

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
"""Bytes a parameter takes on disk and in memory, scales and unquantised layers included (4-bit formats keep
embeddings and norms in 16 bit); a model whose weights differ says `weights_gb`."""

RECIPE_FACTOR = 1.2
"""vLLM's recipes ask for this multiple of the weights as the least GPU memory of a pod."""


@dataclass(frozen=True)
class Tuning:
    """What a model needs on one kind of hardware, on top of what it needs everywhere.

    `context` caps the tokens, `share` the part of a GPU's memory, where the model's recipe gives them.
    """

    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    context: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class Layout:
    """A proven way to serve a model on so many GPUs of some kinds: it may undercut the recipe's minimum."""

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

    `weights_gb` and `minimum_gb` (least GPU memory of all GPUs together) are in 10^9 bytes; `tensor` is the
    largest tensor-parallel size that its weights split into; `on` the hardware it is made for, when limited;
    `floor` the first vLLM release that serves it ("nightly": none does yet), the model's own when that is later.
    """

    name: str
    id: str
    precision: str
    weights_gb: float
    minimum_gb: float
    tensor: int | None = None
    on: tuple[str, ...] = ()
    floor: str | None = None
    tuning: Tuning = field(default_factory=Tuning)
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    layouts: tuple[Layout, ...] = ()
    checked: str = ""
    """How the entry was proved on vLLM: "" (taken over), "parsed" (its arguments), "run" (it has answered)."""


@dataclass(frozen=True)
class ModelSpec:
    """Facts about one model; `variants` holds the default one first."""

    id: str
    title: str
    family: str
    parameters_b: float
    context: int | None
    variants: tuple[Variant, ...]
    active_b: float | None = None
    floor: str | None = None
    ceiling: str | None = None
    """The last vLLM release that serves it."""
    tools: str | None = None
    """Name of vLLM's tool-call parser."""
    reasoning: str | None = None
    """Name of vLLM's reasoning parser."""
    api: str = "chat"
    experts: bool = False
    """Whether its feed-forward layers are split into experts."""
    heads: int | None = None
    attention: Attention | None = None
    spans: str | None = None
    """How it spreads over two pods: "pipeline", "tensor" or "data"; None where no recipe says."""
    data_parallel: bool = False
    """Whether its recipe serves it by replicated attention with the experts spread out."""
    trust_remote_code: bool = False
    tuning: Tuning = field(default_factory=Tuning)
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """What must be installed besides vLLM, as pip requirements."""
    verified: tuple[str, ...] = ()
    """Hardware on which its recipe has been run, by name."""
    notes: str = ""
    source: str = ""
    multimodal: bool = False

    def variant(self, name: str) -> Variant | None:
        """The variant called `name`, or whose id is `name`."""
        wanted = name.lower()
        return next((v for v in self.variants if wanted in (v.name.lower(), v.id.lower())), None)


@dataclass(frozen=True)
class Catalog:
    """Every model that pi knows, in the file's order."""

    models: tuple[ModelSpec, ...]

    @cached_property
    def _by_id(self) -> dict[str, tuple[ModelSpec, Variant]]:
        named: dict[str, tuple[ModelSpec, Variant]] = {}
        for spec in self.models:
            for variant in reversed(spec.variants):
                named[variant.id.lower()] = spec, variant
        return named | {spec.id.lower(): (spec, spec.variants[0]) for spec in self.models}

    def find(self, model: str) -> tuple[ModelSpec, Variant] | None:
        """The model and checkpoint with this Hugging Face id, in any case of letters."""
        return self._by_id.get(model.lower())

    def named(self, name: str) -> str | None:
        """The id of the checkpoint that is called so within its organisation, in any case of letters."""
        wanted = f"/{name.lower()}"
        return next((variant.id for _, variant in self._by_id.values() if variant.id.lower().endswith(wanted)), None)

    def search(self, words: str) -> tuple[ModelSpec, ...]:
        """Models of which every word is part of the id, title or family."""
        wanted = words.lower().split()
        return tuple(m for m in self.models if all(w in f"{m.id} {m.title} {m.family}".lower() for w in wanted))


def load(config_dir: Path | None = None) -> Catalog:
    """The catalog that pi ships, with the models.toml of a config directory laid over it entry by entry.

    A user's table changes the keys that it names and leaves the others. Raises InputError naming the file
    and the entry that cannot be read.
    """
    own = config_dir / "models.toml" if config_dir else None
    if own is None or not own.is_file():
        return read(read_toml(SHIPPED))
    return read(_laid_over(read_toml(SHIPPED), read_toml(own)), str(own))


def read(tables: Mapping[str, Any], where: str = "models.toml") -> Catalog:
    """The catalog that these tables hold. Raises InputError naming `where` and the entry that cannot be read."""
    families = tables.get("family", {})
    models = []
    for name, table in tables.get("model", {}).items():
        try:
            models.append(_model(name, families.get(table.get("family"), {}), table))
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise InputError(
                "catalog-entry-invalid",
                f"{where}: model {name}: {_said(problem)}",
                "its form is told at the top of models.toml",
            ) from None
    return Catalog(tuple(models))


def _said(problem: Exception) -> str:
    return f"{problem.args[0]!r} is missing" if isinstance(problem, KeyError) else str(problem)


def read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise InputError("catalog-unreadable", f"{path}: {problem}") from None


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _laid_over(merged[key], value) if both else value
    return merged


_MODEL_KEYS = frozenset(
    [
        "family",
        "title",
        "parameters",
        "active",
        "checked",
        "context",
        "floor",
        "ceiling",
        "tools",
        "reasoning",
        "api",
        "experts",
        "heads",
        "attention",
        "spans",
        "data_parallel",
        "trust_remote_code",
        "args",
        "env",
        "on",
        "packages",
        "verified",
        "notes",
        "source",
        "multimodal",
        "variants",
        "share",
    ]
)

_VARIANT_KEYS = frozenset(
    [
        "id",
        "precision",
        "weights_gb",
        "minimum_gb",
        "tensor",
        "only",
        "floor",
        "args",
        "env",
        "context",
        "share",
        "on",
        "layouts",
        "checked",
    ]
)

_TUNING_KEYS = frozenset(["args", "env", "context", "share"])

_LAYOUT_KEYS = _TUNING_KEYS | frozenset(["gpus", "on", "tensor", "pipeline", "data", "expert", "note"])


def _model(name: str, family: Mapping[str, Any], table: Mapping[str, Any]) -> ModelSpec:
    facts = _laid_over(dict(family), dict(table))
    _known_keys(facts, _MODEL_KEYS)
    variants = tuple(_variant(key, name, facts, value) for key, value in facts["variants"].items())
    if not variants:
        raise ValueError("it has no variant")
    attention = facts.get("attention")
    return ModelSpec(
        id=name,
        title=facts.get("title") or name.rpartition("/")[2],
        family=facts.get("family", ""),
        parameters_b=float(facts["parameters"]),
        active_b=facts.get("active"),
        context=facts.get("context"),
        variants=variants,
        floor=_floor(facts),
        ceiling=_release(facts.get("ceiling")),
        tools=facts.get("tools") or None,
        reasoning=facts.get("reasoning") or None,
        api=facts.get("api", "chat"),
        experts=facts.get("experts", False),
        heads=facts.get("heads"),
        attention=Attention(**attention) if attention else None,
        spans=facts.get("spans") or None,
        data_parallel=facts.get("data_parallel", False),
        trust_remote_code=facts.get("trust_remote_code", False),
        tuning=Tuning(tuple(facts.get("args", ())), facts.get("env", {}), None, facts.get("share")),
        tunings=_tunings(facts.get("on", {})),
        packages=tuple(map(_requirement, facts.get("packages", ()))),
        verified=tuple(facts.get("verified", ())),
        notes=facts.get("notes", ""),
        source=facts.get("source", ""),
        multimodal=facts.get("multimodal", False),
    )


def _variant(name: str, model: str, facts: Mapping[str, Any], table: Mapping[str, Any]) -> Variant:
    _known_keys(table, _VARIANT_KEYS)
    precision, parameters = table["precision"], float(facts["parameters"])
    weights_gb = float(table.get("weights_gb", round(parameters * BYTES_PER_PARAMETER[precision], 2)))
    return Variant(
        name=name,
        id=table.get("id", model),
        precision=precision,
        weights_gb=weights_gb,
        minimum_gb=float(table.get("minimum_gb", round(weights_gb * RECIPE_FACTOR, 1))),
        tensor=table.get("tensor"),
        on=tuple(table.get("only", ())),
        floor=latest((_floor(table), facts.get("floor"))),
        tuning=_tuning(table),
        tunings=_tunings(table.get("on", {})),
        layouts=tuple(_layout(row) for row in table.get("layouts", ())),
        checked=table.get("checked", facts.get("checked", "")),
    )


def _layout(table: Mapping[str, Any]) -> Layout:
    _known_keys(table, _LAYOUT_KEYS)
    data, pipeline, gpus = table.get("data", 1), table.get("pipeline", 1), table["gpus"]
    tensor = table.get("tensor", gpus // (data * pipeline))
    if tensor * data * pipeline != gpus:
        raise ValueError(f"a layout of {gpus} GPUs splits them into {tensor} x {pipeline} x {data}")
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
        _known_keys(table, _TUNING_KEYS)
    return {hardware: _tuning(table) for hardware, table in tables.items()}


def _tuning(table: Mapping[str, Any]) -> Tuning:
    return Tuning(tuple(table.get("args", ())), table.get("env", {}), table.get("context"), table.get("share"))


def _requirement(package: str) -> str:
    if not re.match(r"[A-Za-z0-9]", package) or not package.isprintable():
        raise ValueError(f"{package!r} is no package, such as timm or timm==1.0.0")
    return package


def _floor(table: Mapping[str, Any]) -> str | None:
    floor: str | None = table.get("floor")
    return floor if floor == NIGHTLY else _release(floor)


def _release(version: str | None) -> str | None:
    if version is not None and not re.fullmatch(r"\d+(\.\d+)*", version, re.ASCII):
        raise ValueError(f"{version!r} is no release of vLLM, such as 0.32.0")
    return version


def _known_keys(table: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}")
