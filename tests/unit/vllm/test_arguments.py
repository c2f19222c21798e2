"""Words and environment of a plan, and the raw arguments that pi rejects."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning import amounts, serve
from pi.planning.split import Split
from pi.planning.types import LaunchPlan
from pi.vllm import raw_arguments, versions
from pi.vllm.arguments import Arguments

PLAN = LaunchPlan(
    model=ModelId("org/model-FP8"),
    name="m",
    served_names=("org/model-FP8", "org/model", "m"),
    port=8003,
    gpus=(0, 1),
    args=Arguments.parse(["--tensor-parallel-size", "2"]),
    env={"CUDA_VISIBLE_DEVICES": "0,1"},
)
ACROSS = Arguments.parse(["--pipeline-parallel-size", "2", "--nnodes", "2"])
SPREAD = replace(PLAN, nodes=2, args=ACROSS, split=Split(pipeline=2))


def test_command_has_model_names_address_and_arguments() -> None:
    assert serve.command(PLAN, "127.0.0.1") == (
        *("vllm", "serve", "org/model-FP8"),
        *("--served-model-name", "org/model-FP8", "org/model", "m"),
        *("--host", "127.0.0.1", "--port", "8003"),
        *("--tensor-parallel-size", "2"),
    )


def rank(number: int) -> serve.Rank:
    return serve.Rank(number, ("192.0.2.1", "192.0.2.2"), "eth1", 29501)


def test_only_the_first_pod_serves_http() -> None:
    first = serve.command(SPREAD, "0.0.0.0", rank(0))
    second = serve.command(SPREAD, "0.0.0.0", rank(1))
    assert ("--host" in first, "--headless" in first) == (True, False)
    assert ("--host" in second, "--headless" in second) == (False, True)
    assert Arguments.parse(second).get("--node-rank") == "1"
    assert {Arguments.parse(words).get("--master-addr") for words in (first, second)} == {"192.0.2.1"}


def test_processes_of_one_pod_use_loopback() -> None:
    assert serve.environment(PLAN) == {"VLLM_HOST_IP": "127.0.0.1", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert "VLLM_HOST_IP" not in serve.environment(SPREAD)


def test_processes_of_several_pods_use_their_address_and_interface() -> None:
    environment, words = serve.server(SPREAD, rank=rank(1))
    assert (environment["VLLM_HOST_IP"], environment["GLOO_SOCKET_IFNAME"]) == ("192.0.2.2", "eth1")
    assert "--middleware" not in words and "--middleware" in serve.server(SPREAD, rank=rank(0))[1]


def check(words: list[str]) -> None:
    raw_arguments.check_raw(Arguments.parse(words))


REJECTED = {
    "the port": ["--port", "9000"],
    "the key, with its value joined": ["--api-key=sk-123"],
    "an underscore spelling": ["--served_model_name", "x"],
    "an abbreviation": ["--mid", "evil.Module"],
    "a part of a configuration": ["--profiler-config.profiler=torch"],
    "a part of an option with underscores": ["--profiler_config.torch_profiler_dir", "/"],
    "files that callers could read": ["--allowed-local-media-path", "/"],
    "a short option of pi": ["-n", "2"],
    "a short option with its value attached": ["-n2"],
    "a short option with its value joined": ["-dpa=192.0.2.9"],
    "a file of further arguments": ["--config", "more.yaml"],
    "another model": ["--model", "org/other"],
    "Ray": ["--distributed-executor-backend", "ray"],
    "Ray, joined": ["--distributed-executor-backend=ray"],
    "Ray, as a part of another option": ["--additional-config.distributed_executor_backend", "ray"],
    "Ray, abbreviated": ["--distributed-exec", "ray"],
    "gRPC after harmless words": ["--enforce-eager", "--max-model-len", "4096", "--grpc"],
    "a line break": ["--chat-template", "a\nb"],
    "a NUL": ["--dtype", "auto\0"],
}


@pytest.mark.parametrize("args", REJECTED.values(), ids=REJECTED)
def test_raw_arguments_reject(args: list[str]) -> None:
    with pytest.raises(InputError):
        check(args)


ALLOWED = {
    "sizes": ["--tensor-parallel-size", "4", "--pipeline-parallel-size=2"],
    "short sizes": ["-tp", "4", "-pp", "2", "-ep"],
    "an optimisation level": ["-O3"],
    "JSON with quotes and spaces": ["--compilation-config", '{"cudagraph_mode": "PIECEWISE"}'],
    "empty and negative values": ["--override-generation-config", "{}", "--seed", "-1"],
    "Unicode and shell characters": ["--chat-template", "/tmp/$(x) `y` é.jinja"],
    "another executor": ["--distributed-executor-backend", "mp"],
    "remote code": ["--trust-remote-code"],
    "nothing": [],
}


@pytest.mark.parametrize("args", ALLOWED.values(), ids=ALLOWED)
def test_raw_arguments_allow(args: list[str]) -> None:
    check(args)


def test_rejection_has_a_reason_and_no_value() -> None:
    with pytest.raises(InputError, match=r"--api-key.*environment") as caught:
        check(["--api-key", "sk-secret"])
    assert caught.value.id == "raw-argument-owned"
    with pytest.raises(InputError) as caught:
        check(["--api-key=sk-secret"])
    assert "sk-secret" not in caught.value.render()


@given(
    st.sampled_from(sorted(raw_arguments.OWNED | raw_arguments.OPENING)),
    st.integers(3, 40),
    st.booleans(),
    st.booleans(),
)
def test_every_spelling_of_a_rejected_option_is_rejected(
    name: str, length: int, underscores: bool, joined: bool
) -> None:
    spelt = name[:length]
    spelt = "--" + spelt[2:].replace("-", "_") if underscores else spelt
    with pytest.raises(InputError):
        check([f"{spelt}=x"] if joined else [spelt, "x"])


def test_get_returns_the_last_value_in_any_spelling() -> None:
    args = Arguments.parse(("-tp", "2", "--max_model_len=4096", "--tensor-parallel-size", "4"))
    assert args.get("--tensor-parallel-size") == "4"
    assert args.get("--max-model-len") == "4096"
    assert args.get("--dtype") is None and "--dtype" not in args
    assert Arguments.parse(("--dtype",)).get("--dtype") is None
    assert Arguments.parse(("--dtype", "--seed", "1")).get("--dtype") is None


LAID = {
    "an option is replaced and moves to the end": (["--a", "1", "--b", "2"], ["--a", "3"], ["--b", "2", "--a", "3"]),
    "all words of an option go": (["--a", "1", "2", "--b"], ["--a", "3"], ["--b", "--a", "3"]),
    "another spelling": (["--a-b=1"], ["--a_b", "2"], ["--a_b", "2"]),
    "nothing above": (["--a"], [], ["--a"]),
    "nothing below": ([], ["--a"], ["--a"]),
    "words before the first option stay": (["x", "--a"], ["y", "--a"], ["x", "y", "--a"]),
}


@pytest.mark.parametrize(("below", "above", "words"), LAID.values(), ids=LAID)
def test_over_replaces_options(below: list[str], above: list[str], words: list[str]) -> None:
    assert list(Arguments.parse(above).over(Arguments.parse(below)).words) == words


@given(st.lists(st.text(max_size=8) | st.sampled_from(["--a", "--a=1", "-tp", "-O3", "-1", "--", "{}", "--b.c"])))
def test_parsing_keeps_all_words_in_order(words: list[str]) -> None:
    assert list(Arguments.parse(words).words) == words


def test_set_replaces_an_option() -> None:
    args = Arguments.parse(["--seed", "1", "--dtype", "auto"]).set("--seed", 2).set("--enforce-eager")
    assert args.words == ("--dtype", "auto", "--seed", "2", "--enforce-eager")


CONTEXTS = {"32k": 32768, "32K": 32768, "1M": 1048576, "40960": 40960, " 8k ": 8192, "1.5k": 1536}


@pytest.mark.parametrize(("text", "tokens"), CONTEXTS.items())
def test_context_is_in_tokens(text: str, tokens: int) -> None:
    assert amounts.parse_context(text) == tokens


@pytest.mark.parametrize("text", ["", "0", "-1", "32kk", "k", "1e3", "32 000", "1.0001k", "999999999M", "٣k"])
def test_invalid_context_is_rejected(text: str) -> None:
    with pytest.raises(InputError) as caught:
        amounts.parse_context(text)
    assert caught.value.id == "context-invalid"


MEMORIES = {"50%": 0.5, "50": 0.5, "0.5": 0.5, ".5": 0.5, "95%": 0.95, "1%": 0.01, "12.5%": 0.125}


@pytest.mark.parametrize(("text", "share"), MEMORIES.items())
def test_memory_is_a_share(text: str, share: float) -> None:
    assert amounts.parse_memory(text) == share


@pytest.mark.parametrize("text", ["", "0", "0%", "96%", "100%", "1", "-5%", "50%%", "half", "nan", "1e-1"])
def test_invalid_share_is_rejected(text: str) -> None:
    with pytest.raises(InputError) as caught:
        amounts.parse_memory(text)
    assert caught.value.id == "memory-invalid"


MINIMUMS = {
    ("0.31.0", "0.32.0"): True,
    ("0.32.0+cpu", "0.32.0"): False,
    ("0.9.2", "0.10.0"): True,
    ("0.33.0rc1.dev7", "0.32.0"): False,
    (None, "0.32.0"): False,
    ("0.32.0", None): False,
}


@pytest.mark.parametrize(("pair", "old"), MINIMUMS.items())
def test_versions_compare_by_numbers(pair: tuple[str | None, str | None], old: bool) -> None:
    assert versions.too_old(*pair) is old
