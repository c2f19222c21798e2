"""`--set KEY=VALUE`: what it becomes, what it replaces, and what pi rejects."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.errors import InputError
from pi.vllm import settings
from pi.vllm.arguments import Arguments

PARSED = {
    "a value": (["max-num-seqs=64"], "--max-num-seqs=64"),
    "underscores": (["max_num_seqs=64"], "--max-num-seqs=64"),
    "dashes before the key": (["--max-num-seqs=64"], "--max-num-seqs=64"),
    "a flag": (["enable-prefix-caching"], "--enable-prefix-caching"),
    "a flag turned off": (["no-enable-prefix-caching"], "--no-enable-prefix-caching"),
    "a short option": (["tp=2"], "--tensor-parallel-size=2"),
    "a value with equals signs": (["override-generation-config=a=b=c"], "--override-generation-config=a=b=c"),
    "a value with blanks": (["response-role=my robot"], "'--response-role=my robot'"),
    "a negative value": (["seed=-1"], "--seed=-1"),
    "an empty value": (["chat-template="], "--chat-template="),
    "a list": (["cudagraph-capture-sizes=1 2 4"], "--cudagraph-capture-sizes 1 2 4"),
    "a list of JSON": (['lora-modules={"name": "a"}'], """'--lora-modules={"name": "a"}'"""),
    "the last of two values": (["seed=1", "dtype=auto", "seed=2"], "--dtype=auto --seed=2"),
    "the last of a flag and its opposite": (["enable-lora", "no-enable-lora"], "--no-enable-lora"),
    "the last of a flag and its other opposite": (["disable-log-stats", "enable_log_stats"], "--enable-log-stats"),
    "parts of one option": (["load_config.a_b=1", "load-config.c=2"], "--load-config.a_b=1 --load-config.c=2"),
    "the last value of a part": (["hf-overrides.a=1", "hf-overrides.a=2"], "--hf-overrides.a=2"),
    "JSON replaces its parts": (["hf-overrides.a=1", 'hf-overrides={"b": 2}'], """'--hf-overrides={"b": 2}'"""),
}  # fmt: skip


@pytest.mark.parametrize(("texts", "words"), PARSED.values(), ids=PARSED)
def test_settings_become_arguments(texts: list[str], words: str) -> None:
    assert list(settings.parse(texts).words) == shlex.split(words)


REJECTED = {
    "no key": ("=64", "set-invalid", "KEY=VALUE"),
    "a key with a blank": ("max-num-seqs 64", "set-invalid", "KEY=VALUE"),
    "nothing": ("", "set-invalid", "KEY=VALUE"),
    "a key with a quote": ("max'num=1", "set-invalid", "KEY=VALUE"),
    "an argument of pi": ("port=9000", "raw-argument-owned", "--set may not contain --port: pi chooses a free port"),
    "an argument that opens the server": ("root_path=/x", "raw-argument-owned", "past the API key"),
    "the beginning of one": ("middle=x.Y", "raw-argument-owned", "--middle"),
    "a part of one": ("profiler-config.profiler=torch", "raw-argument-owned", "--profiler-config"),
    "one inside JSON": ('additional-config={"kv_transfer_config": {}}', "raw-argument-owned", "inside JSON"),
    "Ray": ("distributed-executor-backend=ray", "raw-argument-ray", "no password"),
    "a line break": ("chat-template=a\nb", "raw-argument-invalid", "a line break"),
}


@pytest.mark.parametrize(("text", "error_id", "told"), REJECTED.values(), ids=REJECTED)
def test_settings_that_pi_rejects(text: str, error_id: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        settings.parse([text])
    assert caught.value.id == error_id
    assert told in caught.value.render()


LAID = {
    "a value over a value": ("--max-num-seqs 512 --seed 1", ["max-num-seqs=64"], "--seed 1 --max-num-seqs=64"),
    "off over on": ("--enable-expert-parallel", ["no-enable-expert-parallel"], "--no-enable-expert-parallel"),
    "on over off": ("--no-enable-prefix-caching", ["enable-prefix-caching"], "--enable-prefix-caching"),
    "a part over JSON": (
        """--attention-config '{"backend": "FA", "indexer": 1}'""",
        ["attention-config.backend=FLASHINFER"],
        """--attention-config '{"backend": "FLASHINFER", "indexer": 1}'""",
    ),
    "a part over parts": (
        "--attention-config.backend FA --attention-config.indexer fp8",
        ["attention-config.backend=X"],
        """--attention-config '{"backend": "X", "indexer": "fp8"}'""",
    ),
    "parts alone": (
        "",
        ["speculative-config.method=mtp", "speculative_config.num_speculative_tokens=3"],
        """--speculative-config '{"method": "mtp", "num_speculative_tokens": 3}'""",
    ),
    "a part over JSON of --set": (
        """--hf-overrides '{"z": 1}'""",
        ['hf-overrides={"a": {"b": 1, "c": 2}}', "hf-overrides.a.b=true"],
        """--hf-overrides '{"a": {"b": true, "c": 2}}'""",
    ),
    "parts of a list": (
        """--hf-overrides '{"a": ["w"]}'""",
        ["hf-overrides.a+=x,y", "hf-overrides.b+=z", "hf-overrides.a+=v"],
        """--hf-overrides '{"a": ["w", "x", "y", "v"], "b": ["z"]}'""",
    ),
    "a part with a suffix": ("", ["kernel-config.cache=1k"], """--kernel-config '{"cache": 1000}'"""),
    "a long option over a short one": (
        "-sc {} --seed 1",
        ["speculative-config={}"],
        "--seed 1 --speculative-config={}",
    ),
    "nothing": ("--seed 1", [], "--seed 1"),
}


@pytest.mark.parametrize(("below", "texts", "words"), LAID.values(), ids=LAID)
def test_settings_are_laid_over_arguments(below: str, texts: list[str], words: str) -> None:
    laid = settings.laid_over(settings.parse(texts), Arguments.parse(shlex.split(below)))
    assert list(laid.words) == shlex.split(words)


NUMBERS = {"4096": 4096, "32k": 32000, "32K": 32768, "1.5k": 1500, "1.5K": None, "2M": 2097152, "x": None, "-1": None}


@pytest.mark.parametrize(("text", "number"), NUMBERS.items())
def test_numbers_are_read_as_vllm_reads_them(text: str, number: int | None) -> None:
    assert settings.number_of(text) == number


@given(st.lists(st.text(max_size=20) | st.from_regex(r"[a-z-]{1,12}(\.[a-z]{1,3}\+?)?(=[^\n]{0,12})?", fullmatch=True)))
def test_any_setting_is_rejected_or_one_word_for_vllm(texts: list[str]) -> None:
    """No value becomes an option of its own, and no option comes from a value."""
    try:
        args = settings.parse(texts)
    except InputError:
        return
    for item in settings.laid_over(args, Arguments()).items:
        assert item.option is not None and re.fullmatch(r"--[A-Za-z][A-Za-z0-9-]*", item.option)
        assert len(item.words) == 1 or item.option in settings.LISTS or json.loads(item.words[1]) is not None
