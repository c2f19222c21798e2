"""Repositories that arguments name beside the model."""

from __future__ import annotations

import shlex

import pytest

from pi.model_id import ModelId
from pi.vllm.arguments import Arguments
from pi.vllm.repositories import Repository, named_by


def small(name: str, revision: str | None = None) -> Repository:
    return Repository(ModelId(name), revision, weights=False)


def whole(name: str, revision: str | None = None) -> Repository:
    return Repository(ModelId(name), revision)


NAMED = {
    "a tokenizer": ("--tokenizer org/tokens", [small("org/tokens")]),
    "a tokenizer with a revision": ("--tokenizer=a/b --tokenizer-revision v1", [small("a/b", "v1")]),
    "a configuration": ("--hf-config-path a/b", [small("a/b")]),
    "a generation configuration": ("--generation-config a/b", [small("a/b")]),
    "a draft model": ('--speculative-config \'{"model": "a/draft", "revision": "v2"}\'', [whole("a/draft", "v2")]),
    "a draft model by its short option": ('-sc \'{"model": "a/draft"}\'', [whole("a/draft")]),
    "a draft model by its parts": ("--speculative_config.model a/b --speculative-config.method eagle3", [whole("a/b")]),
    "a draft model of its own option": ("--spec-model a/b --spec-method eagle3", [whole("a/b")]),
    "adapters": ("--lora-modules x=a/x y=a/y z=/srv/z", [whole("a/x"), whole("a/y")]),
    "an adapter as JSON": ('--lora-modules \'{"name": "x", "path": "a/x"}\'', [whole("a/x")]),
    "an adapter, joined": ("--lora-modules=x=a/x", [whole("a/x")]),
    "adapters of modalities": ('--default-mm-loras \'{"audio": "a/x", "image": "/srv/y"}\'', [whole("a/x")]),
    "weights win over small files": ("--tokenizer a/b --spec-model a/b", [whole("a/b")]),
    "a repository twice": ("--tokenizer a/b --hf-config-path a/b", [small("a/b")]),
    "the last of two": ("--tokenizer a/b --tokenizer a/c", [small("a/c")]),
    "paths": ("--tokenizer /srv/t --spec-model ~/draft --hf-config-path ./x --lora-modules x=../y", []),
    "methods and modes": ('--generation-config vllm -sc \'{"model": "ngram"}\' --tokenizer-mode mistral', []),
    "URLs": ("--tokenizer s3://bucket/x --spec-model https://huggingface.co/a/b", []),
    "broken JSON": ("--speculative-config {model --lora-modules {x", []),
    "no value": ("--tokenizer --speculative-config --lora-modules", []),
    "hostile texts": ("--tokenizer 'a/b;id' --spec-model --x/y --lora-modules x=-a/b", []),
    "nothing": ("", []),
}


@pytest.mark.parametrize(("line", "repositories"), NAMED.values(), ids=NAMED)
def test_arguments_name_repositories(line: str, repositories: list[Repository]) -> None:
    assert list(named_by(Arguments.parse(shlex.split(line)))) == repositories
