"""pi's part goes into settings files of users and out again, and the rest of their text stays as it is."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.clients import json_text
from pi.clients.merging import Conflict, merge, parsed, remove

OURS = {"provider": {"pi-qwen": {"options": {"baseURL": "http://h/v1"}, "models": ["qwen"]}}}

TEXTS = [
    "",
    "  \n",
    "{}",
    "{}\n",
    '{"a": 1}',
    '{"a": 1, "provider": {"other": {"x": [1, 2]}}}\n',
    '{\n    "provider": {\n        "other": {}\n    },\n    "a": 1.10\n}\n',
    '{\r\n  "a": 1\r\n}\r\n',
    '// mine\n{\n  // above a\n  "a": 1, // beside a\n  /* b */ "provider": {"other": 1,}, // last\n}\n// end',
    '{"a": "} // no comment /* \\" {", "provider": {}}',
    "{ // first\n}",
    '\t{\n\t"a": [\n\t\t{"b": null}\n\t]\n}\n',
]


@pytest.mark.parametrize("text", TEXTS)
def test_json_goes_in_and_out(text: str) -> None:
    merged = merge(text, "json", OURS, {"model": "pi-qwen/qwen"})
    before = parsed(text, "json")
    after = parsed(merged.text, "json")
    assert after["provider"]["pi-qwen"] == OURS["provider"]["pi-qwen"]
    assert after["model"] == "pi-qwen/qwen"
    assert {key: after[key] for key in before if key != "provider"} == {
        key: before[key] for key in before if key != "provider"
    }
    for word in text.split():
        assert word.strip("{},") in merged.text
    assert parsed(remove(merged.text, "json", merged.added), "json") == before


def test_lines_of_the_user_stay_as_they_are() -> None:
    text = '{\n    // mine\n    "a": 1.10, // beside\n    "provider": {\n        "other": {"x": 1}\n    }\n}\n'
    merged = merge(text, "json", OURS, {"model": "m"})
    lines = merged.text.splitlines()
    assert [line for line in text.splitlines() if line not in lines] == ['        "other": {"x": 1}', "    }"]
    assert '        "other": {"x": 1},' in lines
    assert '        "pi-qwen": {' in lines
    assert remove(merged.text, "json", merged.added) == text


def test_what_is_there_already_is_not_pis_and_stays() -> None:
    text = '{"provider": {"pi-qwen": {"models": ["qwen"]}}}'
    merged = merge(text, "json", OURS, {})
    assert parsed(merged.text, "json") == OURS
    assert parsed(remove(merged.text, "json", merged.added), "json") == json.loads(text)


@pytest.mark.parametrize(
    "there", ['{"provider": 1}', '{"provider": {"pi-qwen": {"models": ["mine"]}}}', '{"provider": null}']
)
def test_another_value_at_pis_place_is_a_conflict(there: str) -> None:
    with pytest.raises(Conflict):
        merge(there, "json", OURS, {})


def test_a_default_of_the_user_stays_and_no_other_is_set() -> None:
    merged = merge('{"model": "mine"}', "json", OURS, {"model": "pi", "small_model": "pi"})
    assert merged.kept == ("model",)
    assert parsed(merged.text, "json") == {"model": "mine", **OURS}


INVALID = [
    ('{"a": 1', "line 1: a comma or } is missing"),
    ('{"a": 1}\n x', "line 2: unexpected text"),
    ('{"a": 1,\n "a": 2}', 'line 2: the key "a" appears twice'),
    ("[1]", "line 1: it is not an object"),
    ("{a: 1}", "line 1: a key is missing"),
    ('{"a" 1}', "line 1: a colon is missing"),
    ('{"a": NaN}', "line 1: a value is missing"),
    ('{"a": 01}', "line 1: a value is not valid"),
    ("{" + '"a": {' * 200, "line 1: too many levels"),
    ("\ufeff{}", "line 1: a value is missing"),
]


@pytest.mark.parametrize(("text", "problem"), INVALID, ids=[problem for _, problem in INVALID])
def test_invalid_json_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as error:
        merge(text, "json", OURS, {})
    assert str(error.value) == problem


def test_a_part_that_the_user_changed_is_not_removed() -> None:
    merged = merge("{}", "json", OURS, {})
    with pytest.raises(Conflict) as error:
        remove(merged.text.replace("http://h/v1", "http://other/v1"), "json", merged.added)
    assert error.value.path == "provider.pi-qwen.options.baseURL"


def test_what_others_added_beside_pis_part_stays() -> None:
    merged = merge("{}", "json", OURS, {})
    text = json_text.with_member(merged.text, ("provider", "other"), {"x": 1})
    assert parsed(remove(text, "json", merged.added), "json") == {"provider": {"other": {"x": 1}}}


def test_a_part_that_the_user_removed_is_ignored() -> None:
    merged = merge('{"a": 1}', "json", OURS, {})
    assert remove('{"a": 2}', "json", merged.added) == '{"a": 2}'


KEYS = st.text(string.ascii_letters + ' "\\/{},:é', min_size=1, max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(string.printable + "é", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.sampled_from([None, 1, 2, "\t"]))
def test_any_json_goes_in_and_out(document: dict[str, Any], indent: int | str | None) -> None:
    document.pop("provider", None)
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    merged = merge(text, "json", OURS, {})
    assert json.loads(merged.text) == {**document, **OURS}
    assert json.loads(remove(merged.text, "json", merged.added)) == document


CODEX = {"model_providers": {"pi-qwen": {"name": "qwen", "base_url": "http://h/v1"}}}
DEFAULTS = {"model": "qwen", "model_provider": "pi-qwen", "model_context_window": 8192}

TOMLS = [
    "",
    "# mine\nsandbox = true # beside\n\n[tools]\nweb = false\n",
    '# first\n[model_providers.other]\nname = "other" # mine',
    'text = """\n[model_providers.pi-qwen]\n"""\n',
    "[model_providers]\n",
    "# mine\r\nsandbox = true\r\n\r\n[tools]\r\nweb = false\r\n",
]


@pytest.mark.parametrize("text", TOMLS)
def test_toml_goes_in_and_out_and_comments_stay(text: str) -> None:
    merged = merge(text, "toml", CODEX, DEFAULTS)
    after = parsed(merged.text, "toml")
    assert after["model_providers"]["pi-qwen"] == CODEX["model_providers"]["pi-qwen"]
    assert {key: after[key] for key in DEFAULTS} == DEFAULTS
    assert text in merged.text or text + "\n" in merged.text
    assert merged.text.count("\r\n") in (0, merged.text.count("\n"))
    out = remove(merged.text, "toml", merged.added)
    assert out.split() == text.split()


def test_toml_keeps_what_was_added_after_pi() -> None:
    merged = merge("", "toml", CODEX, DEFAULTS)
    text = merged.text + '\n[model_providers.other]\nname = "x"\n'
    assert parsed(remove(text, "toml", merged.added), "toml") == {"model_providers": {"other": {"name": "x"}}}


@pytest.mark.parametrize(
    "text", ["model_providers = {other = {}}\n", "[model_providers.pi-qwen]\nname = 'mine'\n", "model_providers = 1\n"]
)
def test_toml_that_cannot_be_extended_is_a_conflict(text: str) -> None:
    with pytest.raises(Conflict) as raised:
        merge(text, "toml", CODEX, DEFAULTS)
    assert "model_providers" in raised.value.path


def test_invalid_toml_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1"):
        merge("a = = 1\n", "toml", CODEX, {})


def test_a_changed_part_of_toml_is_not_removed() -> None:
    merged = merge("", "toml", CODEX, DEFAULTS)
    with pytest.raises(Conflict):
        remove(merged.text.replace("http://h/v1", "http://other/v1"), "toml", merged.added)
    with pytest.raises(Conflict):
        remove(merged.text.replace('name = "qwen"', 'name = "qwen" # note'), "toml", merged.added)
