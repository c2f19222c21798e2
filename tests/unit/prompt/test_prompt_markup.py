"""Tool calls that stayed text: the parser of vLLM that reads each markup, and texts that are no calls."""

from __future__ import annotations

from typing import Any

import pytest

from pi.prompt.markup import MARKS, TextCall, text_call
from tests.rig.cases import CASES, read_toml

TOOLS = ("ls", "read", "glob", "rg")

TABLE: list[dict[str, Any]] = read_toml(CASES / "tool_call_texts" / "texts.toml")["text"]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case["about"])
def test_a_text_names_the_parser_that_reads_it(case: dict[str, Any]) -> None:
    found = text_call(case["text"], TOOLS)
    if "parser" not in case:
        assert found is None
    elif case["parser"] == "none":
        assert found == TextCall(case["name"], ())
    else:
        assert found is not None
        assert (found.parsers[0], found.name) == (case["parser"], case.get("name", ""))


def test_every_parser_that_pi_names_exists_in_vllm() -> None:
    named = {parser for mark in MARKS for parser in mark.parsers}
    known = set(read_toml(CASES / "tool_call_texts" / "texts.toml")["parsers"])
    assert named <= known


@pytest.mark.parametrize(
    "text", ["<" * 50_000, "[" * 50_000, '{"name": ' * 20_000, "ls(" * 50_000, "<tool_call>" * 5000]
)
def test_hostile_text_is_read_in_time(text: str) -> None:
    text_call(text, TOOLS)
