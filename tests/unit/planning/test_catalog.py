"""models.toml: its entries, a user's entries over it, and its Markdown page."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from chores import catalog_reader, catalog_text
from pi.errors import InputError
from pi.planning import catalog, gpu_kinds, hardware
from pi.planning.catalog import BYTES_PER_PARAMETER, ModelSpec, Variant
from pi.planning.splits import COUNTS
from tests.pods import FIXTURE, KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
CATALOG = catalog.load()
VARIANTS = [(spec, variant) for spec in CATALOG.models for variant in spec.variants]


def tables() -> dict[str, Any]:
    return tomllib.loads((ROOT / "models.toml").read_text())


# -------------------------------------------------------------------------------------------- entries


def test_every_model_of_the_recipes_and_the_list_is_there() -> None:
    import json

    recipes = json.loads((ROOT / "tests" / "fixtures" / "recipes.json").read_text())["recipes"]
    assert len({recipe["model"] for recipe in recipes}) == 125
    assert [recipe["model"] for recipe in recipes if CATALOG.find(recipe["model"]) is None] == []
    listed = re.findall(r"HF: (\S+)", LIST)
    assert [model for model in listed if CATALOG.find(model) is None] == []


@pytest.mark.parametrize("spec", CATALOG.models, ids=lambda spec: spec.id)
def test_entry_is_complete(spec: ModelSpec) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", spec.id)
    assert spec.family and spec.source and spec.min_vllm
    assert spec.context is not None and 4096 <= spec.context <= 10_485_760
    assert spec.active_b is None or spec.active_b < spec.parameters_b
    assert spec.api in ("chat", "responses")
    assert spec.spans in (None, "pipeline", "tensor", "data")
    assert len({variant.name for variant in spec.variants}) == len(spec.variants)
    if spec.attention is not None:
        assert spec.heads is not None
        assert spec.attention.layers > 0
        assert bool(spec.attention.latent) != bool(spec.attention.kv_heads and spec.attention.head_dim)
        assert bool(spec.attention.window) == bool(spec.attention.window_layers)
        assert not spec.attention.kv_heads or spec.heads % spec.attention.kv_heads == 0
    for option in ("--trust-remote-code", "--tool-call-parser", "--reasoning-parser", "--max-model-len"):
        assert option not in spec.tuning.args


@pytest.mark.parametrize(("spec", "variant"), VARIANTS, ids=lambda value: getattr(value, "id", ""))
def test_variant_is_complete(spec: ModelSpec, variant: Variant) -> None:
    assert variant.precision in BYTES_PER_PARAMETER
    assert variant.precision in hardware.MIN_CAPABILITY
    assert min(variant.weights_gb, variant.minimum_gb) > 0
    assert variant.tensor in (None, *COUNTS)
    assert variant.checked in ("", "parsed", "run")
    for layout in variant.layouts:
        assert set(layout.on) <= set(KINDS)
        card_gb = min(FIXTURE["gpus"][kind]["memory_mib"] for kind in layout.on) * 1024**2 / 1e9
        assert variant.weights_gb < layout.gpus * card_gb


def test_hardware_names_are_valid() -> None:
    generations = {*hardware.GENERATIONS.values(), *hardware.EXCEPTIONS.values()}
    valid = {kind.name for kind in gpu_kinds.KINDS} | generations | {"nvidia", "mig", "cpu"}
    named = {name for spec, variant in VARIANTS for name in (*spec.tunings, *variant.tunings, *variant.on)}
    assert named <= valid
    assert {name for spec in CATALOG.models for name in spec.verified} <= valid


def test_family_facts_apply_unless_a_model_differs() -> None:
    entry = CATALOG.find("zai-org/GLM-4.7")
    other = CATALOG.find("zai-org/GLM-4.5")
    assert entry and other
    assert (entry[0].family, entry[0].reasoning, other[0].reasoning) == ("glm-4.5", "glm45", "glm45")
    assert (entry[0].tools, other[0].tools) == ("glm47", "glm45")


def test_model_is_found_by_the_id_of_any_checkpoint() -> None:
    assert CATALOG.find("no/such-model") is None
    for name in ("Qwen/Qwen3-32B-AWQ", "qwen/qwen3-32b-awq"):
        entry = CATALOG.find(name)
        assert entry is not None
        assert (entry[0].id, entry[1].name) == ("Qwen/Qwen3-32B", "awq")


def test_search_matches_every_word() -> None:
    ids = [spec.id for spec in CATALOG.search("QWEN coder 30b")]
    assert ids == ["Qwen/Qwen3-Coder-30B-A3B-Instruct"]
    assert len(CATALOG.search("")) == len(CATALOG.models)


# ------------------------------------------------------------------------------------------ a user's file


def own(tmp_path: Path, text: str) -> catalog.Catalog:
    (tmp_path / "models.toml").write_text(text)
    return catalog.load(tmp_path)


def test_user_entry_is_added(tmp_path: Path) -> None:
    entry = own(tmp_path, '[model."me/mine"]\nparameters = 7\nvariants.bf16 = { precision = "bf16" }\n').find("me/mine")
    assert entry is not None
    spec, variant = entry
    assert (spec.context, spec.tools, variant.id) == (None, None, "me/mine")
    assert (variant.weights_gb, variant.minimum_gb) == (14.0, 16.8)


def test_user_key_changes_only_that_key(tmp_path: Path) -> None:
    text = '[model."Qwen/Qwen3-32B"]\ncontext = 32768\n[model."Qwen/Qwen3-32B".variants.fp8]\nminimum_gb = 36\n'
    entry = own(tmp_path, text).find("Qwen/Qwen3-32B-FP8")
    shipped = CATALOG.find("Qwen/Qwen3-32B-FP8")
    assert entry and shipped
    assert (entry[0].context, entry[1].minimum_gb) == (32768, 36)
    assert (entry[0].tools, entry[1].weights_gb) == (shipped[0].tools, shipped[1].weights_gb)
    assert len(own(tmp_path, text).models) == len(CATALOG.models)


def test_catalog_without_a_user_file_is_the_shipped_one(tmp_path: Path) -> None:
    assert catalog.load(tmp_path).models == CATALOG.models


BROKEN = {
    "not TOML": ("[model", "models.toml: "),
    "not UTF-8": (b"\xff\xfe", "models.toml: "),
    "an unknown key": ('[model."me/x"]\nparameter = 7\n', "model me/x: unknown key parameter"),
    "no size": ('[model."me/x"]\nvariants.a = { precision = "bf16" }\n', "model me/x: 'parameters' is missing"),
    "no variant": ('[model."me/x"]\nparameters = 7\n', "model me/x: 'variants' is missing"),
    "an unknown format": (
        '[model."me/x"]\nparameters = 7\nvariants.a = { precision = "fp3" }\n',
        "model me/x: 'fp3'",
    ),
    "a layout that does not add up": (
        '[model."me/x"]\nparameters = 7\n[model."me/x".variants.a]\nprecision = "bf16"\n'
        'layouts = [{ gpus = 8, on = ["h100"], tensor = 4 }]\n',
        "model me/x: a layout of 8 GPUs cannot split into 4 x 1 x 1",
    ),
    "a table where a number should be": (
        '[model."me/x"]\nparameters = {}\nvariants.a = { precision = "bf16" }\n',
        "me/x",
    ),
    "a package that is an option": (
        '[model."me/x"]\nparameters = 7\npackages = ["--index-url=http://x"]\nvariants.a = { precision = "bf16" }\n',
        "model me/x: '--index-url=http://x' is not a package",
    ),
    "a model that is not a table": ("model.x = 1\n", "model x"),
}


@pytest.mark.parametrize(("text", "part"), BROKEN.values(), ids=BROKEN)
def test_invalid_entry_is_named(tmp_path: Path, text: str | bytes, part: str) -> None:
    (tmp_path / "models.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        catalog.load(tmp_path)
    assert part in caught.value.message
    assert str(tmp_path) in caught.value.message


# --------------------------------------------------------------------------------------------------- Markdown


def test_page_matches_the_catalog() -> None:
    """`inv models.render` brings docs/models.md up to date."""
    assert catalog_text.PAGE.read_text() == catalog_text.page(tables())


def test_page_reads_back_as_the_catalog() -> None:
    by_hand = {key: tables()[key] for key in ("family", "model")}
    again = catalog_reader.convert(catalog_text.PAGE.read_text())
    assert again == by_hand
    assert tomllib.loads(catalog_reader.to_toml(again)) == by_hand


def test_page_checks_the_boxes_of_checked_entries() -> None:
    page = catalog_text.PAGE.read_text()
    assert "    - [x] mxfp4: mxfp4, files 65.251 GB" in page
    assert "\n- [ ] PLaMo 2 Translate\n" in page
    checked = sum(bool(variant.checked) for _, variant in VARIANTS)
    assert len(re.findall(r"^    - \[x\]", page, re.MULTILINE)) == checked


LIST = """# Models people keep by hand

### Qwen-Coder
- Notes: for code
- [ ] Qwen3-Coder-480B-A35B-Instruct-FP8
  - HF: Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8
  - Hardware:
    - 8x H200/H20
      - --max-model-len 131072 --enable-expert-parallel --data-parallel-size 8 --enable-auto-tool-choice --tool-call-parser qwen3_coder
      - Env: VLLM_USE_DEEP_GEMM=1
      - Notes: Use data-parallel mode.
- [x] Qwen2.5-Coder-32B-Instruct
  - HF: Qwen/Qwen2.5-Coder-32B-Instruct
  - Hardware:
    - 1x H100/H200
      - --tool-call-parser hermes --enable-auto-tool-choice
    - 2x H100/H200
      - --tensor-parallel-size 2 --tool-call-parser hermes --enable-auto-tool-choice
  - Notes: Single GPU capable.

### Kimi
- [ ] Kimi-K2-Instruct
  - HF: moonshotai/Kimi-K2-Instruct
  - Hardware:
    - 16x H200/H20 (DP+EP mode)
      - --data-parallel-size 16 --data-parallel-size-local 8 --gpu-memory-utilization 0.85 --trust-remote-code
"""


def test_plain_list_becomes_a_catalog() -> None:
    made = catalog.read(catalog_reader.convert(LIST))
    coder, _, kimi = made.models
    row = coder.variants[0].layouts[0]
    assert (coder.tools, coder.parameters_b, coder.variants[0].precision) == ("qwen3_coder", 480.0, "fp8")
    assert (row.gpus, row.on, row.data, row.expert, row.tuning.context) == (8, ("h200", "h20"), 8, True, 131072)
    assert (row.tuning.args.words, row.tuning.env) == ((), {"VLLM_USE_DEEP_GEMM": "1"})
    assert (kimi.trust_remote_code, kimi.variants[0].layouts[0].tuning.share) == (True, 0.85)
    assert kimi.parameters_b == round(16 * 97871 * 1024**2 / 1e9 / 1.2 / 2)
    assert all("estimated" in spec.source for spec in made.models)


UNREADABLE = {
    "no id": ("### A\n- [ ] x\n", "line 2: x has no HF: line"),
    "an unknown fact": ("### A\n- Colour: red\n", "line 2: unknown fact 'Colour'"),
    "not a number": ("### A\n- Context: long\n", "line 2: cannot parse 'Context: long'"),
    "not hardware": (
        "### A\n- [ ] x\n  - HF: a/b\n  - Hardware:\n    - many\n",
        "line 5: invalid hardware 'many'",
    ),
    "not a variant": (
        "### A\n- [ ] x\n  - HF: a/b\n  - Variants:\n    - fp8\n",
        "line 5: invalid variant 'fp8'",
    ),
}


@pytest.mark.parametrize(("text", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_invalid_line_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        catalog_reader.convert(text)
    assert message in caught.value.message
