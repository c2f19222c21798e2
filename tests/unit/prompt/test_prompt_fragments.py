"""Arguments put together from fragments, and names with marks on them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.prompt.fragments import meant, resolved

OBJECTS = st.dictionaries(st.text(max_size=6), st.recursive(st.text(max_size=8), st.lists, max_leaves=4), max_size=3)


@given(OBJECTS, st.lists(st.integers(0, 200), max_size=5))
def test_whole_arguments_stay_as_they_are(arguments: dict[str, Any], cuts: list[int]) -> None:
    text = json.dumps(arguments)
    ends = sorted({*(cut % (len(text) + 1) for cut in cuts), len(text)})
    fragments = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert resolved(fragments) == text
    damaged = [[*fragments, text], [*fragments, *fragments], ["{}", *fragments], ["{", text], [json.dumps(text)]]
    for each in damaged:
        assert json.loads(resolved(each) or "null") == arguments


@pytest.mark.parametrize(
    "text", ['{"path": "a', "not json", '{"a": 1}{"a": 2}', "[1]", "7", "", '{"a": NaN}', "{{", "}"]
)
def test_what_is_no_object_is_not_repaired(text: str) -> None:
    assert resolved([text]) is None


@pytest.mark.parametrize("text", ["{}" * 10_000, "{" * 10_000, '{"a":' * 10_000, "{} " * 10_000, '"' * 10_000])
def test_hostile_arguments_are_read_in_time(text: str) -> None:
    began = time.process_time()
    resolved([text])
    resolved(list(text))
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("ls", "ls"),
        ("ls<|channel|>commentary", "ls"),
        ("functions.ls", "ls"),
        ("functions.ls:0", "ls"),
        ("to=functions.ls", "ls"),
        ("default_api:ls", "ls"),
        (' "ls" ', "ls"),
        ("ls({})", "ls"),
        ("lsx", "lsx"),
        ("shell<|message|>", "shell<|message|>"),
        ("", ""),
    ],
)
def test_a_name_may_have_marks_on_it(name: str, tool: str) -> None:
    assert meant(name, {"ls", "read"}) == tool
