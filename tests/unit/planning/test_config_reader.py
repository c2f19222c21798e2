"""The reader of config.json, held against networks derived by hand and against hostile input."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi.planning.config_reader import read_network
from pi.planning.network import Layers, Network

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FIXTURES = Path(__file__).parents[2] / "fixtures"
CONFIGS = FIXTURES / "configs"
REAL = tomllib.loads((FIXTURES / "networks.toml").read_text())["network"]
BY_HAND = json.loads((FIXTURES / "networks_by_hand.json").read_text())
FACTS = ("heads", "hidden", "depth", "context", "experts", "multimodal", "draft_layers")
OPTIONAL = ("vocabulary", "intermediate", "precision")
PLAIN = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 1024}


def config(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text())
    return read


def expected_layers(group: dict[str, Any]) -> Layers:
    """Return a group of the fixture; a list is a shape and the bytes of a number."""
    sizes: dict[str, Any] = {name: math.prod(size) if isinstance(size, list) else size for name, size in group.items()}
    return Layers(**sizes)


def check(network: Network | None, expected: dict[str, Any]) -> None:
    assert network is not None
    found = {replace(group, at=(), mamba2=False) for group in network.groups}
    assert found == {expected_layers(group) for group in expected["groups"]}
    assert len(network.groups) == len(expected["groups"])
    facts = {name: expected.get(name, 0) for name in FACTS} | {n: expected[n] for n in OPTIONAL if n in expected}
    assert {name: getattr(network, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [pytest.param(name, form, entry, id=name) for entry in REAL for name, form in entry["files"].items()],
)
def test_real_config_gives_the_network_of_vllm(name: str, precision: str, expected: dict[str, Any]) -> None:
    check(read_network(config(name)), {**expected, "precision": precision})


UNEVEN = {
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": {"full": [(5, 12, 19, 26, 33, 42)], "state": [()]},
    "MiniMaxAI/MiniMax-M3": {"full": [(0, 1, 2), ()]},
    "Qwen/Qwen3.5-27B": {"full": [()], "state": [()]},
    "openai/gpt-oss-20b": {"full": [()], "window": [()]},
}
"""Blocks of layers where a pipeline stage has more of them than at even distances, by kind of cache."""


@pytest.mark.parametrize(("name", "places"), UNEVEN.items(), ids=UNEVEN)
def test_blocks_of_uneven_layers(name: str, places: dict[str, list[tuple[int, ...]]]) -> None:
    network = read_network(config(name.replace("/", "--")))
    assert network is not None
    found: dict[str, list[tuple[int, ...]]] = {}
    for group in network.groups:
        found.setdefault(group.cache, []).append(group.at)
        assert group.mamba2 == (group.cache == "state" and "Nemotron" in name)
    assert found == places


def test_every_real_config_has_an_expected_network() -> None:
    expected = [name for entry in REAL for name in entry["files"]]
    assert sorted(expected) == sorted(path.stem for path in CONFIGS.glob("*.json"))


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in BY_HAND["networks"]])
def test_odd_config_gives_the_network_of_vllm(case: dict[str, Any]) -> None:
    check(read_network(case["config"]), case["expected"])


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Qwen--Qwen3.5-27B", [1, 2, 4, 8]),
        ("Qwen--Qwen3-32B", [1, 2, 4, 8]),
        ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", [1, 2, 4, 8]),
        ("deepseek-ai--DeepSeek-V3", [1, 2, 4, 8]),
        ("meta-llama--Llama-4-Scout-17B-16E-Instruct", [1, 2, 4, 8]),
        ("moonshotai--Kimi-K3", [1, 2, 3, 4, 6, 8]),
        ("nvidia--Gemma-4-31B-IT-NVFP4", [1, 2, 4, 8]),
        ("MiniMaxAI--MiniMax-M2.5", [1, 2, 4, 8]),
    ],
)
def test_tensor_parallel_sizes_divide_all_heads(name: str, sizes: list[int]) -> None:
    network = read_network(config(name))
    assert network is not None
    assert [size for size in range(1, 9) if network.splits_over(size)] == sizes


def test_more_gpus_than_heads_of_keys_keep_copies() -> None:
    network = read_network({**PLAIN, "num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 64})
    assert network is not None
    assert [size for size in range(1, 25) if network.splits_over(size)] == [1, 2, 4, 8, 12, 24]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["why"]) for case in BY_HAND["precisions"]])
def test_quantization_gives_the_number_format(case: dict[str, Any]) -> None:
    network = read_network({**PLAIN, **case["config"]})
    assert network is not None
    assert network.precision == case["expected"]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["why"]) for case in BY_HAND["precisions"]])
def test_quantization_in_the_text_section_counts_too(case: dict[str, Any]) -> None:
    network = read_network({"text_config": {**PLAIN, **case["config"]}, "vision_config": {"depth": 1}})
    assert network is not None
    assert network.precision == case["expected"]


def test_separate_quantization_file_gives_the_number_format() -> None:
    separate = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}
    network = read_network(config("nvidia--DeepSeek-V3.1-NVFP4"), separate)
    assert network is not None
    assert network.precision == "nvfp4"


@pytest.mark.parametrize(
    "missing",
    [
        {},
        {"model_type": "unheard_of"},
        {"num_hidden_layers": 32, "hidden_size": 4096},
        {"num_hidden_layers": 32, "num_attention_heads": 32},
        {"num_attention_heads": 32, "hidden_size": 4096},
        {**PLAIN, "num_hidden_layers": 10**9},
        {**PLAIN, "layer_types": ["linear_attention", "full_attention"]},
        {"model_type": "ultravox", "text_config": None, "text_model_id": "meta-llama/Llama-3.1-8B"},
    ],
    ids=["empty", "no sizes", "no heads", "no width", "no layers", "absurd layers", "state unknown", "text elsewhere"],
)
def test_missing_facts_give_none(missing: dict[str, Any]) -> None:
    assert read_network(missing) is None


KEYS = sorted(
    {
        key
        for entry in [
            *(config(name) for real in REAL for name in real["files"]),
            *(c["config"] for c in BY_HAND["networks"]),
        ]
        for section in [entry, entry.get("text_config")]
        if isinstance(section, dict)
        for key in section
    }
)
NUMBERS = st.one_of(st.integers(), st.integers(-2, 300), st.floats(), st.just(10**400))
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), NUMBERS, st.text(max_size=20), st.sampled_from(["mamba", "full_attention", "M*E-"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from([*(case["config"] for case in BY_HAND["networks"]), PLAIN]),
    changes=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8),
    nested=st.booleans(),
)
def test_hostile_fields_never_raise(start: dict[str, Any], changes: dict[str, Any], nested: bool) -> None:
    hostile = {**start, **changes}
    network = read_network({**start, "text_config": hostile} if nested else hostile)
    assert network is None or all(group.count > 0 for group in network.groups)


@given(st.one_of(VALUES, st.dictionaries(st.text(), VALUES)))
def test_anything_but_a_table_is_no_network(value: Any) -> None:
    assert read_network(value) is None or isinstance(value, dict)


def test_huge_lists_and_deep_nesting_are_read() -> None:
    deep: dict[str, Any] = dict(PLAIN)
    for _ in range(100_000):
        deep = {"text_config": deep, "rope_scaling": deep}
    many = 200_000
    huge = {
        **PLAIN,
        "layer_types": ["full_attention"] * many,
        "hybrid_override_pattern": "M" * many,
        "compress_ratios": [4] * many,
        "quantization_config": {"quantized_layers": {str(n): {"quant_algo": "x"} for n in range(many)}},
        "rope_scaling": {str(n): {"factor": 2} for n in range(1000)},
    }
    assert read_network(deep) is None
    assert read_network(huge) is not None
