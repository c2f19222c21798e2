"""What a model's repository says about it, besides its weights, and what the pod's vLLMs say of the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Verdict:
    """Whether a vLLM of the pod serves a model.

    It is "served", "removed" in a release after `detail`, only with the "plugin" at the address `detail`, "unknown" to
    this vLLM, or in a number "format" that this vLLM does not load. `what` is the architecture or the format.
    """

    verdict: Literal["served", "removed", "plugin", "unknown", "format"]
    what: str = ""
    detail: str = ""


@dataclass(frozen=True)
class ModelCard:
    """Facts from a repository's files and its page on the hub; None or empty if unknown.

    `template` contains the marks of the chat template: "template" if there is one, "tools", "think", and the texts of
    `pi.planning.manners.MARKED`. `consolidated` means weights in Mistral's format. `pooling` means that Sentence
    Transformers describes it, `adapter` that it has LoRA weights only. `labels` counts the classes of a classifier.
    `verdicts` are those of the pod's vLLMs, by the folder of the venv. `absent` means that the hub has no such
    repository, or none that the pod's token may read.
    """

    architectures: tuple[str, ...] = ()
    model_type: str | None = None
    base_models: tuple[str, ...] = ()
    template: frozenset[str] | None = None
    consolidated: bool | None = None
    pooling: bool = False
    adapter: bool = False
    labels: int | None = None
    gguf: tuple[str, ...] = ()
    absent: bool = False
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


def ids_in(values: Iterable[object]) -> Iterator[str]:
    """Yield the values that are ids of repositories."""
    for value in values:
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,96}/[A-Za-z0-9._-]{1,96}", value):
            yield value


def card_of(config: Mapping[str, Any]) -> ModelCard:
    """Return the card's facts that are in a config.json."""
    names, labels, origin = config.get("architectures"), config.get("id2label"), config.get("_name_or_path")
    model_type = config.get("model_type")
    return ModelCard(
        architectures=tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else (),
        model_type=model_type if isinstance(model_type, str) else None,
        base_models=tuple(ids_in([origin])),
        labels=len(labels) if isinstance(labels, dict) else None,
    )
