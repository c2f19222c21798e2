"""The commands that pi names to start a model with other arguments."""

from __future__ import annotations

import shlex

import pytest

from pi.fabric_tasks.prompt_endpoint import _parsers, _start_command
from pi.planning.amounts import parse_context
from pi.pods.types import Deployment
from pi.prompt.endpoint import Endpoint
from pi.vllm import settings

QWEN = Deployment("qwen", "Qwen/Qwen3-8B", 8001, (0,), 1)


def test_a_pods_model_is_started_with_words_that_pi_takes() -> None:
    endpoint = Endpoint("http://h/v1", "qwen", "k", start=_start_command(QWEN, None))
    command = endpoint.with_tool_parser("hermes")
    stop, _, start = command.partition(" && ")
    assert (stop, shlex.split(start)[:5]) == ("pi stop qwen", ["pi", "start", "Qwen/Qwen3-8B", "--name", "qwen"])
    words = shlex.split(start)[5:]
    assert words[::2] == ["--set"] * 2
    assert list(settings.parse(words[1::2]).words) == ["--enable-auto-tool-choice", "--tool-call-parser=hermes"]
    assert parse_context(endpoint.started_with_context(65536).rpartition(" ")[2]) == 65536


def test_the_command_quotes_and_names_the_pod() -> None:
    deployment = Deployment("x", "/srv/my models/x;rm -rf", 8001, (0,), 1)
    assert shlex.split(_start_command(deployment, "box")) == [
        *("pi", "stop", "x", "--pod", "box", "&&"),
        *("pi", "start", "/srv/my models/x;rm -rf", "--name", "x", "--pod", "box"),
    ]


def test_another_servers_command_has_vllms_own_flags() -> None:
    endpoint = Endpoint("http://h/v1", "m", "k")
    assert endpoint.with_tool_parser(None) == "vllm serve m --enable-auto-tool-choice --tool-call-parser NAME"
    assert endpoint.started_with_context(4096) == "vllm serve m --max-model-len 4096"


@pytest.mark.parametrize(
    ("model", "parsers"),
    [
        ("Qwen/Qwen3-8B", ("hermes", "qwen3")),
        ("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/abc", ("hermes", "qwen3")),
        ("nobody/nothing-like-it", (None, None)),
    ],
)
def test_the_parsers_are_those_of_the_models_family(model: str, parsers: tuple[str | None, str | None]) -> None:
    assert _parsers(model) == parsers
