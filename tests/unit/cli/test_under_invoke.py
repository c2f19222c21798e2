"""Words of verbs as Invoke's parser reads them, for `inv` and `fab`."""

from __future__ import annotations

from typing import Any

import pytest
from invoke.exceptions import ParseError
from invoke.parser import Parser

from pi.fabric_tasks import namespace

QWEN = {"model": "a/b", "name": "q"}
UNDER_INVOKE = [
    ("flags alone", "start --model a/b --name q --dry-run --vllm -x", {**QWEN, "dry_run": True, "vllm": ["-x"]}),
    ("repeated flags", "start --model a/b --name q --set seed=1 --set=dtype=auto --vllm -x",
     {**QWEN, "set": ["seed=1", "dtype=auto"], "vllm": ["-x"]}),
    ("raw words", "start --model a/b --name q --vllm -tp 4 --x=y half --help -e",
     {**QWEN, "vllm": ["-tp", "4", "--x=y", "half", "--help", "-e"]}),
    ("raw words after an equals sign", "start --model a/b --name q --vllm=--x=y z", {**QWEN, "vllm": ["--x=y", "z"]}),
    ("raw words in two parts", "start --model a/b --vllm -tp 4 --name q --vllm --eager",
     {**QWEN, "vllm": ["-tp", "4", "--eager"]}),
    ("no raw words", "start --model a/b --name q --vllm", QWEN),
    ("a short switch", "stop -y", {"yes": True}),
    ("words of an operand", "prompt --message say hi --name q", {"name": "q", "message": ["say", "hi"]}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "values"), [case[1:] for case in UNDER_INVOKE], ids=[c[0] for c in UNDER_INVOKE])
def test_invoke_reads_words_as_the_help_says(words: str, values: dict[str, Any]) -> None:
    contexts = namespace().to_contexts()
    defaults = {context.name: context.as_kwargs for context in contexts}
    [parsed] = Parser(contexts).parse_argv(words.split())
    read = {key: value for key, value in parsed.as_kwargs.items() if value != defaults[parsed.name][key]}
    assert read == values


NOT_UNDER_INVOKE = [
    ("a word for a number", "logs --name q --lines ten", "--lines 'ten' is not a whole number"),
    ("the name of a task among words", "prompt --message please list", "'list' is ambiguous"),
]


@pytest.mark.parametrize(
    ("words", "told"), [case[1:] for case in NOT_UNDER_INVOKE], ids=[c[0] for c in NOT_UNDER_INVOKE]
)
def test_invoke_rejects_words_without_a_traceback(words: str, told: str) -> None:
    with pytest.raises(ParseError, match=told):
        Parser(namespace().to_contexts()).parse_argv(words.split())
