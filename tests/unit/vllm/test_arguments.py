"""The words and the environment that a plan becomes, and the raw arguments that pi refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.errors import InputError
from pi.planning import amounts, serve
from pi.planning.estimate import Split
from pi.planning.types import LaunchPlan
from pi.vllm import arguments, raw_arguments, versions

PLAN = LaunchPlan(
    model="org/model-FP8",
    name="m",
    served_names=("org/model-FP8", "org/model", "m"),
    port=8003,
    gpus=(0, 1),
    args=("--tensor-parallel-size", "2"),
    env={"CUDA_VISIBLE_DEVICES": "0,1"},
)
SPREAD = replace(PLAN, nodes=2, args=("--pipeline-parallel-size", "2", "--nnodes", "2"), split=Split(pipeline=2))


def test_the_command_names_model_names_address_and_then_the_plans_arguments() -> None:
    assert serve.command(PLAN, "127.0.0.1") == (
        *("vllm", "serve", "org/model-FP8"),
        *("--served-model-name", "org/model-FP8", "org/model", "m"),
        *("--host", "127.0.0.1", "--port", "8003"),
        *("--tensor-parallel-size", "2"),
    )


def test_the_first_pod_of_two_serves_and_the_second_has_no_http() -> None:
    first = serve.command(SPREAD, "0.0.0.0", 0, ("192.0.2.1", 29501))
    second = serve.command(SPREAD, "0.0.0.0", 1, ("192.0.2.1", 29501))
    assert ("--host" in first, "--headless" in first) == (True, False)
    assert ("--host" in second, "--headless" in second) == (False, True)
    assert arguments.value_of(second, "--node-rank") == "1"
    assert {arguments.value_of(words, "--master-addr") for words in (first, second)} == {"192.0.2.1"}


def test_replicas_over_two_pods_are_told_where_the_first_one_is() -> None:
    plan = replace(SPREAD, args=("--data-parallel-size", "16"), split=Split(data=16))
    first = serve.command(plan, "0.0.0.0", 0, ("192.0.2.1", 29501))
    second = serve.command(plan, "0.0.0.0", 1, ("192.0.2.1", 29501))
    assert arguments.value_of(first, "--data-parallel-address") == "192.0.2.1"
    assert arguments.value_of(second, "--data-parallel-start-rank") == "8"
    assert "--master-addr" not in second


def test_processes_of_one_pod_talk_over_the_loopback_address() -> None:
    assert serve.environment(PLAN) == {"VLLM_HOST_IP": "127.0.0.1", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert "VLLM_HOST_IP" not in serve.environment(SPREAD)


REFUSED = {
    "the port": ["--port", "9000"],
    "the key, with its value joined": ["--api-key=sk-123"],
    "an underscore spelling": ["--served_model_name", "x"],
    "a beginning that vLLM would complete": ["--mid", "evil.Module"],
    "a part of a configuration": ["--profiler-config.profiler=torch"],
    "a part of one spelt with underscores": ["--profiler_config.torch_profiler_dir", "/"],
    "files that callers could read": ["--allowed-local-media-path", "/"],
    "a short option that places processes": ["-n", "2"],
    "a short option with its value attached": ["-n2"],
    "a short option with its value joined": ["-dpa=192.0.2.9"],
    "a file of further arguments": ["--config", "more.yaml"],
    "another model": ["--model", "org/other"],
    "Ray": ["--distributed-executor-backend", "ray"],
    "Ray, joined": ["--distributed-executor-backend=ray"],
    "Ray, shortened": ["--distributed-exec", "ray"],
    "gRPC after harmless words": ["--enforce-eager", "--max-model-len", "4096", "--grpc"],
    "a line break": ["--chat-template", "a\nb"],
    "a NUL": ["--dtype", "auto\0"],
}


@pytest.mark.parametrize("args", REFUSED.values(), ids=REFUSED)
def test_raw_arguments_may_not_hold(args: list[str]) -> None:
    with pytest.raises(InputError):
        raw_arguments.check_raw(args)


TAKEN = {
    "sizes": ["--tensor-parallel-size", "4", "--pipeline-parallel-size=2"],
    "short sizes": ["-tp", "4", "-pp", "2", "-ep"],
    "an optimisation level": ["-O3"],
    "JSON with quotes and spaces": ["--compilation-config", '{"cudagraph_mode": "PIECEWISE"}'],
    "a value that looks like nothing": ["--override-generation-config", "{}", "--seed", "-1"],
    "unicode and shell signs": ["--chat-template", "/tmp/$(x) `y` é.jinja"],
    "another executor": ["--distributed-executor-backend", "mp"],
    "remote code, which is the user's to allow": ["--trust-remote-code"],
    "nothing": [],
}


@pytest.mark.parametrize("args", TAKEN.values(), ids=TAKEN)
def test_raw_arguments_may_hold(args: list[str]) -> None:
    raw_arguments.check_raw(args)


def test_the_refusal_says_why() -> None:
    with pytest.raises(InputError, match=r"--api-key.*environment"):
        raw_arguments.check_raw(["--api-key", "sk-secret"])
    with pytest.raises(InputError) as refusal:
        raw_arguments.check_raw(["--api-key=sk-secret"])
    assert "sk-secret" not in refusal.value.render()


@given(
    st.sampled_from(sorted(raw_arguments.OWNED | raw_arguments.OPENING)),
    st.integers(3, 40),
    st.booleans(),
    st.booleans(),
)
def test_no_spelling_of_a_refused_option_passes(name: str, length: int, underscores: bool, joined: bool) -> None:
    spelt = name[:length]
    spelt = "--" + spelt[2:].replace("-", "_") if underscores else spelt
    with pytest.raises(InputError):
        raw_arguments.check_raw([f"{spelt}=x"] if joined else [spelt, "x"])


def test_the_last_of_several_values_counts_in_any_spelling() -> None:
    words = ("-tp", "2", "--max_model_len=4096", "--tensor-parallel-size", "4")
    assert arguments.value_of(words, "--tensor-parallel-size") == "4"
    assert arguments.value_of(words, "--max-model-len") == "4096"
    assert arguments.value_of(words, "--dtype") is None
    assert arguments.value_of(("--dtype",), "--dtype") is None


CONTEXTS = {"32k": 32768, "32K": 32768, "1M": 1048576, "40960": 40960, " 8k ": 8192, "1.5k": 1536}


@pytest.mark.parametrize(("text", "tokens"), CONTEXTS.items())
def test_context_is_read_in_tokens(text: str, tokens: int) -> None:
    assert amounts.parse_context(text) == tokens


@pytest.mark.parametrize("text", ["", "0", "-1", "32kk", "k", "1e3", "32 000", "1.0001k", "999999999M", "٣k"])
def test_what_is_no_context_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        amounts.parse_context(text)


MEMORIES = {"50%": 0.5, "50": 0.5, "0.5": 0.5, ".5": 0.5, "95%": 0.95, "1%": 0.01, "12.5%": 0.125}


@pytest.mark.parametrize(("text", "share"), MEMORIES.items())
def test_memory_is_read_as_a_share(text: str, share: float) -> None:
    assert amounts.parse_memory(text) == share


@pytest.mark.parametrize("text", ["", "0", "0%", "96%", "100%", "1", "-5%", "50%%", "half", "nan", "1e-1"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        amounts.parse_memory(text)


FLOORS = {
    ("0.31.0", "0.32.0"): True,
    ("0.32.0+cpu", "0.32.0"): False,
    ("0.9.2", "0.10.0"): True,
    ("0.33.0rc1.dev7", "0.32.0"): False,
    (None, "0.32.0"): False,
    ("0.32.0", None): False,
}


@pytest.mark.parametrize(("pair", "old"), FLOORS.items())
def test_versions_are_compared_by_their_numbers(pair: tuple[str | None, str | None], old: bool) -> None:
    assert versions.too_old(*pair) is old
