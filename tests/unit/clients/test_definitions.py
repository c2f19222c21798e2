"""What pi writes for each client, and its warnings about models that do not suit one."""

from __future__ import annotations

import json
import sys

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from chores.client_goldens import ENDPOINT, FOLDER, listing
from pi.clients import definitions
from pi.clients.definitions import CLIENTS, Endpoint, client, filled, shown, warnings
from pi.clients.merging import merge, parsed

WITH_FILES = [name for name in CLIENTS if client(name).file]


@pytest.mark.parametrize("name", CLIENTS)
def test_the_settings_of_a_client_are_those_of_its_golden_file(name: str) -> None:
    assert listing(name) == (FOLDER / f"{name}.txt").read_text("utf-8"), "if the new ones are right: inv messages"


def test_every_definition_belongs_to_a_client() -> None:
    assert sorted(path.stem for path in definitions.FOLDER.iterdir()) == sorted(CLIENTS)


@pytest.mark.parametrize("name", WITH_FILES)
def test_without_a_known_context_no_limit_is_invented(name: str) -> None:
    text = shown(client(name).file, Endpoint("http://h/v1", "qwen", None))  # type: ignore[arg-type]
    assert "None" not in text and "null" not in text and "qwen" in text
    for limit in ("context", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "max_input_tokens", "contextLength"):
        assert limit not in text


@pytest.mark.parametrize("name", [name for name in WITH_FILES if client(name).file.format != "yaml"])  # type: ignore[union-attr]
def test_what_pi_shows_is_what_it_writes_into_a_new_file(name: str) -> None:
    file = client(name).file
    assert file
    merged = merge("", file.format, filled(file.content, ENDPOINT), filled(file.defaults, ENDPOINT))
    assert parsed(merged.text, file.format) == parsed(shown(file, ENDPOINT), file.format)


def test_a_line_without_a_value_is_left_out() -> None:
    text = filled(client("litellm").text, Endpoint("http://h/v1", "qwen", None))
    assert "qwen" in text and "tokens" not in text


@pytest.mark.parametrize(
    ("context", "output"), [(8192, 2048), (32768, 8192), (131072, 32768), (1_000_000, 32768), (1, 1)]
)
def test_an_answer_may_have_a_quarter_of_the_context(context: int, output: int) -> None:
    assert Endpoint("http://h/v1", "qwen", context).output == output


def test_a_key_outside_the_environment_is_fetched_by_pi() -> None:
    endpoint = Endpoint("http://h/v1", "qwen", 8192, "$(pi key show)")
    claude, opencode = client("claude-code"), client("opencode")
    assert claude.file and json.loads(shown(claude.file, endpoint))["apiKeyHelper"] == "pi-pods key show"
    assert filled(opencode.run, endpoint) == 'PI_API_KEY="$(pi key show)" opencode -m pi-qwen/qwen'


def test_names_with_dots_stay_whole_in_toml() -> None:
    codex = client("codex")
    assert codex.file
    written = tomllib.loads(shown(codex.file, Endpoint("http://[::1]:8001/v1", "qwen3.6", 8192)))
    assert written["model_providers"]["pi-qwen3.6"]["base_url"] == "http://[::1]:8001/v1"


WARNED = [
    ("opencode", 131072, "qwen3", True, []),
    ("opencode", 8192, "qwen3", True, ["opencode needs a context of about 16,000 tokens, and qwen has 8,192"]),
    ("opencode", 131072, "gemma-2", False, ["opencode works with tools, and vLLM has no tool parser for gemma-2"]),
    ("opencode", 131072, None, None, []),
    ("curl", 2048, "gemma-2", False, []),
    ("codex", 131072, "gpt-oss", True, ["vLLM before 0.33 rejected the namespace tools"]),
    ("claude-code", 65536, "qwen3", True, ["Claude Code shortens a conversation at 100,000 tokens at the earliest"]),
    ("claude-code", None, "qwen3", True, []),
]


@pytest.mark.parametrize(("name", "context", "family", "tools", "expected"), WARNED)
def test_models_that_do_not_suit_a_client(
    name: str, context: int | None, family: str | None, tools: bool | None, expected: list[str]
) -> None:
    found = warnings(client(name), Endpoint("http://h/v1", "qwen", context), family, tools)
    assert len(found) == len(expected)
    assert all(said.startswith(begin) for said, begin in zip(found, expected, strict=True))
