"""Which files of a repository are weights that vLLM loads, and what a repository says about its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pi.on_pod import card, checkpoint, survey

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]

INDEX = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}

SMALL = ["config.json", "tokenizer.json", "README.md"]

LOADED: dict[str, tuple[list[str], Any, str, list[str], list[str]]] = {
    "shards": (SHARDS, INDEX, "auto", SHARDS, []),
    "shards and a whole copy": ([*SHARDS, "model.safetensors"], None, "auto", SHARDS, []),
    "an extra file in the index": (
        [*SHARDS, "mtp.safetensors"], {"weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": "mtp.safetensors"}}, "auto",
        [*SHARDS, "mtp.safetensors"], [],
    ),
    "Mistral's format first": ([*SHARDS, "consolidated.safetensors"], INDEX, "auto", ["consolidated.safetensors"], SHARDS),
    "Mistral's format refused": (
        [*SHARDS, "consolidated.safetensors"], INDEX, "safetensors", SHARDS, ["consolidated.safetensors"],
    ),
    "Mistral's format alone": (
        ["consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors", "params.json"], None, "auto",
        ["consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors"], [],
    ),
    "safetensors before .bin": (
        ["model.safetensors", "pytorch_model.bin"], None, "auto", ["model.safetensors"], ["pytorch_model.bin"],
    ),
    ".bin alone": (
        ["pytorch_model.bin", "training_args.bin", "optimizer.bin"], None, "auto", ["pytorch_model.bin"], [],
    ),
    "files in folders": (
        ["model.safetensors", "1_Dense/model.safetensors", "1_Dense/pytorch_model.bin"], None, "auto",
        ["model.safetensors"], [],
    ),
    "an index of nothing": (["model.safetensors"], {"weight_map": 7}, "auto", ["model.safetensors"], []),
    "an index of other files": (["model.safetensors"], {"weight_map": {"a": "b"}}, "auto", ["model.safetensors"], []),
    "GGUF": (["x-Q4_K_M.gguf"], None, "auto", [], []),
    "names that are no plain names": (["--token.safetensors", "consolidated.safetensors"], None, "auto",
                                      ["consolidated.safetensors"], []),
}  # fmt: skip


@pytest.mark.parametrize(("names", "index", "load_format", "loaded", "copies"), LOADED.values(), ids=LOADED)
def test_weights_and_their_copies(
    names: list[str], index: Any, load_format: str, loaded: list[str], copies: list[str]
) -> None:
    present = [*SMALL, *names]
    assert checkpoint.loaded(present, index, load_format) == set(loaded)
    assert checkpoint.copies(present, load_format) == copies
    sizes = dict.fromkeys(present, 10)
    assert checkpoint.weights_bytes(sizes, index, load_format) == (10 * len(loaded) or None)


@pytest.mark.parametrize(
    ("names", "index", "load_format", "whole"),
    [
        ([*SHARDS], INDEX, "auto", True),
        ([SHARDS[0]], INDEX, "auto", False),
        ([SHARDS[0]], None, "auto", False),
        ([*SHARDS], {}, "auto", False),
        (["model.safetensors"], None, "auto", True),
        (["pytorch_model-00001-of-00002.bin"], None, "auto", False),
        (["pytorch_model.bin"], None, "auto", True),
        (["consolidated.safetensors"], None, "auto", True),
        (["consolidated.safetensors"], None, "safetensors", True),
        (["tokenizer.json"], None, "auto", False),
    ],
)
def test_snapshot_is_whole(names: list[str], index: Any, load_format: str, whole: bool) -> None:
    assert checkpoint.whole([*SMALL, *names], index, load_format) == whole
    assert not checkpoint.whole(names, index, load_format)
    assert checkpoint.whole(["params.json", *names], index, load_format) == whole


@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        ("onnx/model.onnx_data", True),
        ("original/consolidated.00.pth", True),
        ("x.gguf", True),
        ("flax_model.msgpack", True),
        ("model.safetensors", False),
        ("1_Dense/pytorch_model.bin", False),
        ("tokenizer.json", False),
    ],
)
def test_copies_for_other_programs_are_skipped(name: str, skipped: bool) -> None:
    assert checkpoint.is_one_of(name, checkpoint.SKIPPED) == skipped


# ------------------------------------------------------------------------------- a repository's card


def folder(path: Path, **files: Any) -> Path:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / name.replace("__", ".")).write_text(text)
    return path


def test_card_of_a_folder(tmp_path: Path) -> None:
    place = folder(
        tmp_path,
        config__json={"architectures": ["Qwen3ForCausalLM"]},
        model__safetensors="0123456789",
        tokenizer_config__json={"chat_template": [{"name": "tool_use", "template": "{% if tools %}<tool_call>"}]},
        README__md="---\nlicense: mit\nbase_model:\n- Qwen/Qwen3-8B\n- 'acme/other'\nlanguage: en\n---\nbase_model: no/no\n",
        modules__json=[],
    )
    found = survey.model_facts(str(place))
    assert found["weights_bytes"] == 10
    assert found["card"] == {
        "base_models": ["Qwen/Qwen3-8B", "acme/other"], "template": ["template", "tools", "<tool_call>"],
        "consolidated": False, "pooling": True, "adapter": False, "gguf": [],
    }  # fmt: skip


def test_card_of_an_adapter_and_of_gguf_files(tmp_path: Path) -> None:
    found = survey.model_facts(str(folder(tmp_path, adapter_config__json={}, m__gguf="x")))
    assert (found["config"], found["weights_bytes"]) == (None, None)
    assert (found["card"]["adapter"], found["card"]["gguf"], found["card"]["template"]) == (True, ["m.gguf"], None)


@pytest.mark.parametrize(
    ("tokenizer", "jinja", "text"),
    [
        (None, "", None),
        (None, "{{ x }}", "{{ x }}"),
        ({}, "", ""),
        ({"chat_template": "a"}, "b", "a\nb"),
        ({"chat_template": [{"template": "a"}, {"name": "b"}, 7]}, None, "a"),
        ({"chat_template": 7}, 8, ""),
    ],
)
def test_template_is_known_if_the_tokenizer_is(tokenizer: Any, jinja: Any, text: str | None) -> None:
    assert card.template_text(tokenizer, jinja) == text


def test_config_takes_params_json_and_nvidias_quantization(tmp_path: Path) -> None:
    params = survey.model_facts(str(folder(tmp_path, params__json={"dim": 4096, "n_layers": 32})))
    assert params["config"] == {"dim": 4096, "n_layers": 32}
    quantized = folder(tmp_path, config__json={"a": 1}, hf_quant_config__json={"quantization": {"quant_algo": "FP8"}})
    found = survey.model_facts(str(quantized))["config"]
    assert found == {"a": 1, "quantization_config": {"quantization": {"quant_algo": "FP8"}}}


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("a/b", ["a/b"]),
        (["a/b", 7, "c"], ["a/b"]),
        (None, []),
        ({"a": "b"}, []),
        ("a/b; rm -rf /", []),
        ("../../etc/passwd", []),
    ],
)
def test_base_models_are_ids(value: Any, ids: list[str]) -> None:
    assert card.model_ids(value) == ids


@pytest.mark.parametrize(
    "text", ["base_model: a/b\n", "base_model: [a/b]\n", "base_model:\n  - a/b\n", 'base_model: "a/b"\n']
)
def test_front_matter_names_the_base_model(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\n{text}tags:\n- c/d\n---\n")
    assert card.origins_of(str(tmp_path)) == ["a/b"]
