"""Families of models, read from families.toml, and which of them a name belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from pi.planning.catalog import read_toml
from pi.vllm.arguments import Arguments

SHIPPED = Path(__file__).parents[1] / "families.toml"

BASE = "base models"
"""Name of the family of models that only complete text."""


@dataclass(frozen=True)
class Family:
    """Models that need the same parsers. Patterns compare the name without its owner."""

    name: str
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    kind: str = "chat"
    """chat, embedding, rerank, transcription; unsupported if vLLM does not serve it any more."""
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    tools: str | None = None
    reasoning: str | None = None
    args: Arguments = field(default_factory=Arguments)
    overrides: tuple[str, ...] = ()
    """Architectures in config.json for which `--hf-overrides` of `args` is meant."""
    template: str | None = None
    """File name of the chat template in vLLM's repository that its recipe names."""
    needs_template: bool = False
    """Whether it has no tools without that template."""
    owners: tuple[str, ...] | None = None
    """Organisations whose Python code vLLM may run; None if the family needs none."""
    packages: tuple[str, ...] = ()
    confidence: str = ""
    source: str = ""

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return _pattern(self.like), _pattern(self.unlike)

    def matches(self, name: str) -> bool:
        """Return whether a plain name (see `plain`) belongs to the family."""
        like, unlike = self._patterns
        return bool(like.match(name)) and not unlike.match(name)


@dataclass(frozen=True)
class Served:
    """An id that people serve often: its family, and facts as far as a source states them."""

    family: str
    architecture: str | None = None
    context: int | None = None


@dataclass(frozen=True)
class Families:
    """All families in the file's order, and the most-served ids."""

    families: tuple[Family, ...]
    ids: Mapping[str, Served]

    @cached_property
    def _by_name(self) -> dict[str, Family]:
        return {family.name: family for family in self.families}

    @cached_property
    def _served(self) -> dict[str, Served]:
        return {model.lower(): served for model, served in self.ids.items()}

    @cached_property
    def _architectures(self) -> dict[str, Family]:
        first: dict[str, Family] = {}
        for family in self.families:
            for architecture in family.architectures:
                first.setdefault(architecture, family)
        return first

    def served(self, model: str) -> Served | None:
        """Return the entry of a most-served id, ignoring case."""
        return self._served.get(model.lower())

    def named(self, model: str) -> Family | None:
        """Return the family of an id: by the index, by its name, or by a part of its name after a separator."""
        if served := self.served(model):
            return self._by_name[served.family]
        return next(filter(None, map(self._like, _parts(plain(model)))), None)

    def _like(self, name: str) -> Family | None:
        return next((family for family in self.families if family.matches(name)), None)

    def of_type(self, model_type: str) -> Family | None:
        return next((family for family in self.families if family.model_type == model_type), None)

    def of_architecture(self, architecture: str) -> Family | None:
        """Return the first family with this architecture."""
        return self._architectures.get(architecture)

    def contradicts(self, family: Family, architectures: Iterable[str]) -> bool:
        """Return whether a network belongs to other families only, so that a similar name is a coincidence."""
        known = [name for name in architectures if name in self._architectures]
        return bool(known and family.architectures) and not set(known) & set(family.architectures)


@cache
def load() -> Families:
    """Read pi's families."""
    tables = read_toml(SHIPPED)
    return Families(
        tuple(map(_family, tables["family"])),
        {model: Served(**entry) for model, entry in tables["ids"].items()},
    )


def _family(table: Mapping[str, Any]) -> Family:
    template = table.get("template", {})
    return Family(
        name=table["name"],
        like=tuple(table.get("like", ())),
        unlike=tuple(table.get("unlike", ())),
        kind=table.get("kind", "chat"),
        model_type=table.get("model_type"),
        architectures=tuple(table.get("architectures", ())),
        tools=table.get("tools"),
        reasoning=table.get("reasoning"),
        args=Arguments.parse(table.get("args", ())),
        overrides=tuple(table.get("overrides", ())),
        template=template.get("file"),
        needs_template=template.get("needed", False),
        owners=tuple(table["owners"]) if "owners" in table else None,
        packages=tuple(table.get("packages", ())),
        confidence=table["confidence"],
        source=table["source"],
    )


def repository_name(model: str) -> str:
    """Return the id of a model; of a path, the id in the hub's cache or the last folder."""
    if not model.startswith(("/", "~")):
        return model
    if cached := re.search(r"/models--([^/]+?)--([^/]+)/snapshots/", model):
        return f"{cached[1]}/{cached[2]}"
    return model.rstrip("/").rpartition("/")[2]


def plain(model: str) -> str:
    """Return a name without its owner, in small letters, with dashes; "3_1" is 3.1."""
    name = model.rpartition("/")[2].lower()
    return re.sub(r"(?<=\d)_(?=\d)", ".", name).replace("_", "-")


def _parts(name: str) -> Iterable[str]:
    """Yield a name, then its ends after each dash: "huihui-qwen3-8b", "qwen3-8b", "8b"."""
    while name:
        yield name
        name = name.partition("-")[2]


@lru_cache(maxsize=1024)
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    """Return one pattern for any of the globs, in plain spelling; it matches nothing without globs."""
    return re.compile("|".join(_regex(plain(glob)) for glob in globs) or r"(?!)")


def _regex(glob: str) -> str:
    parts = {"*": ".*", "?": "."}
    words = re.split(r"([*?]|\[[^\]]*\])", glob)
    return "".join(parts.get(word, word if word.startswith("[") else re.escape(word)) for word in words) + r"\Z"
