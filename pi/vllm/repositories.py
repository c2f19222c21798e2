"""The repositories that arguments name beside the model: adapters, draft models, tokenizers, configurations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pi.errors import InputError
from pi.model_id import ModelId
from pi.vllm.arguments import Argument, Arguments
from pi.vllm.settings import json_of, laid_over

SMALL_FILES = {"--tokenizer": "--tokenizer-revision", "--hf-config-path": "--revision", "--generation-config": ""}
"""Options that name a repository whose weights vLLM does not read, and the option with its revision."""

NO_REPOSITORY = frozenset(["auto", "vllm"])
"""Values of `--generation-config` that name no repository."""


@dataclass(frozen=True)
class Repository:
    """A repository that vLLM reads when it starts. `weights` is false if it reads only the small files."""

    id: ModelId
    revision: str | None = None
    weights: bool = True


def named_by(args: Arguments) -> tuple[Repository, ...]:
    """Return the repositories of the hub that arguments name, each once. Leaves out paths."""
    found: dict[tuple[str, str | None], Repository] = {}
    for repository in _all(args):
        key = (repository.id, repository.revision)
        if key not in found or repository.weights:
            found[key] = repository
    return tuple(found.values())


def _all(args: Arguments) -> Iterator[Repository]:
    for option, revision in SMALL_FILES.items():
        value = args.get(option) or ""
        if value not in NO_REPOSITORY:
            yield from _repository(value, args.get(revision), weights=False)
    drafter = _document(args, "--speculative-config")
    yield from _repository(drafter.get("model") or args.get("--spec-model"), drafter.get("revision"))
    for item in args.items:
        if item.name == "--lora-modules":
            yield from _adapters(item)
    for path in _document(args, "--default-mm-loras").values():
        yield from _repository(path, None)


def _document(args: Arguments, name: str) -> dict[str, Any]:
    """Return the JSON of an option, also if its keys were given one by one."""
    items = tuple(item for item in args.items if item.name == name)
    merged = laid_over(Arguments(items), Arguments()).get(name) if items else None
    document = json_of(merged or "")
    return document if isinstance(document, dict) else {}


def _adapters(item: Argument) -> Iterator[Repository]:
    """Yield the adapters of `--lora-modules`, each written as NAME=PATH or as JSON."""
    joined = item.words[0].partition("=")[2]
    for word in (joined,) if joined else item.words[1:]:
        document = json_of(word)
        path = document.get("path") if isinstance(document, dict) else word.partition("=")[2]
        yield from _repository(path, None)


def _repository(value: object, revision: object, weights: bool = True) -> Iterator[Repository]:
    """Yield the repository of an `owner/name`; a path, a URL or a method such as "ngram" is none."""
    if not isinstance(value, str) or "/" not in value or value.startswith(("/", "~", ".")):
        return
    try:
        parsed = ModelId.parse(value)
    except InputError:
        return
    yield Repository(parsed, revision if isinstance(revision, str) and revision else None, weights)
