"""The sizes of checkpoints: measured ones from the snapshot, estimates for the others, and the chore that makes them."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from chores import refresh
from pi.errors import InputError
from pi.planning import catalog, sizes
from pi.planning.catalog import BYTES_PER_PARAMETER

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "models.toml").read_text("utf-8")
CATALOG = catalog.load()
MEASURED = {row["id"]: row["gb"] for row in json.loads(refresh.SIZES.read_text("utf-8"))["sizes"]}
TODAY = date(2026, 11, 29)


def shipped() -> refresh.Snapshot:
    return refresh.snapshot(refresh.RECIPES, refresh.SIZES, TODAY)


@pytest.mark.parametrize("model", MEASURED)
def test_measured_size_is_in_the_catalog(model: str) -> None:
    size = CATALOG.sizes[model.lower()].weights_gb
    assert size is not None and abs(size / MEASURED[model] - 1) <= 0.03
    entry = CATALOG.find(model)
    if entry and entry[1].id == model:
        assert abs(entry[1].weights_gb / MEASURED[model] - 1) <= 0.03
        assert not entry[1].estimated


def test_snapshot_has_every_known_size() -> None:
    assert len(MEASURED) >= 205


def test_checkpoint_without_a_measured_size_is_estimated() -> None:
    variants = {variant.id: variant for spec in CATALOG.models for variant in spec.variants}
    assert {name for name, variant in variants.items() if variant.estimated} == set(variants) - set(MEASURED)


def test_every_number_has_a_source_and_a_date() -> None:
    for source, table in catalog.parsed(TEXT, "models.toml")["sizes"].items():
        assert source
        assert date.fromisoformat(table["date"]) <= TODAY


MODEL = '[model."me/x"]\nparameters = 10\nvariants.a = { precision = "fp8"%s }\n'

WEIGHTS = {
    "parameters x bytes": ("", 10 * BYTES_PER_PARAMETER["fp8"], True),
    "the measured files": ('[sizes.hub]\ndate = "2026-01-01"\nweights_gb = { "Me/X" = 11.5 }\n', 11.5, False),
}


@pytest.mark.parametrize(("layer", "weights_gb", "estimated"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_without_a_number_of_their_own(layer: str, weights_gb: float, estimated: bool) -> None:
    variant = read(MODEL % "" + layer)
    assert (variant.weights_gb, variant.estimated) == (weights_gb, estimated)


def test_number_of_an_entry_replaces_the_measured_one() -> None:
    layer = '[sizes.hub]\ndate = "2026-01-01"\nweights_gb = { "me/x" = 11.5 }\n'
    variant = read(MODEL % ", weights_gb = 12" + layer)
    assert (variant.weights_gb, variant.minimum_gb, variant.estimated) == (12, 14.4, False)
    assert read(MODEL % ", weights_gb = 12, estimated = true" + layer).estimated


def read(text: str) -> catalog.Variant:
    return catalog.read(catalog.parsed(text, "x.toml")).models[0].variants[0]


INVALID = {
    "text": '"me/x" = "12"',
    "a negative number": '"me/x" = -1',
    "infinity": '"me/x" = inf',
    "not a number": '"me/x" = nan',
    "true": '"me/x" = true',
}


@pytest.mark.parametrize("number", INVALID.values(), ids=INVALID)
def test_invalid_size_is_rejected(number: str) -> None:
    with pytest.raises(InputError) as caught:
        read(f"{MODEL % ''}[sizes.hub]\nweights_gb = {{ {number} }}\n")
    assert "sizes: the size of me/x is not a number of GB" in caught.value.message


def test_unknown_key_of_a_source_is_rejected() -> None:
    with pytest.raises(ValueError, match="hub: unknown key gb"):
        sizes.read({"hub": {"gb": {"me/x": 1}}})


# --------------------------------------------------------------------------------------------- inv models.refresh


def test_refresh_of_the_shipped_snapshot_changes_nothing() -> None:
    assert refresh.refreshed(TEXT, shipped()) == TEXT


def test_refresh_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    recipes = write(
        tmp_path / "recipes.json", [{"model_id": "me/new", "variants": {"default": {"vram_minimum_gb": 9}}}]
    )
    rows = write(tmp_path / "sizes.json", [{"id": "me/new", "gb": 7.5, "source": "hub"}])
    made = refresh.refreshed(TEXT, refresh.snapshot(recipes, rows, date(2027, 1, 2)))
    before, after = (catalog.parsed(text, "models.toml") for text in (TEXT, made))
    assert {key: after[key] for key in ("family", "model")} == {key: before[key] for key in ("family", "model")}
    assert after["date"] == "2027-01-02"
    assert after["sizes"] == {
        "hub": {"date": "2027-01-02", "weights_gb": {"me/new": 7.5}},
        "vllm-project/recipes": {"date": "2027-01-02", "minimum_gb": {"me/new": 9}},
    }
    assert refresh.refreshed(made, refresh.snapshot(recipes, rows, date(2027, 1, 2))) == made


def test_refresh_keeps_sizes_of_one_source_apart_by_date(tmp_path: Path) -> None:
    rows = [
        {"id": "me/a", "gb": 1, "source": "hub", "date": "2026-01-01"},
        {"id": "me/b", "gb": 2, "source": "hub", "date": "2026-02-02"},
    ]
    tables = catalog.parsed(refresh.layer(snapshot(tmp_path, [], rows)), "layer")["sizes"]
    assert tables["hub"] == {"date": "2026-01-01", "weights_gb": {"me/a": 1}}
    assert tables["hub, 2026-02-02"] == {"date": "2026-02-02", "weights_gb": {"me/b": 2}}


def test_refresh_rejects_two_sizes_of_a_checkpoint(tmp_path: Path) -> None:
    row = {"id": "me/a", "gb": 1, "source": "hub"}
    with pytest.raises(ValueError, match="two sizes of me/a"):
        refresh.layer(snapshot(tmp_path, [], [row, row]))


def test_refresh_lists_what_needs_a_hand(tmp_path: Path) -> None:
    recipes: list[dict[str, Any]] = [
        {"model_id": "me/new", "variants": {"default": {}}},
        {"model_id": "Qwen/Qwen3-8B", "context_length": 8192, "variants": {"x": {"model_id": "me/Qwen3-8B-X"}}},
    ]
    assert refresh.news(snapshot(tmp_path, recipes, []), CATALOG) == [
        "no entry for the recipe of me/new",
        "Qwen/Qwen3-8B: the recipe has a context of 8192, not 40960",
        "no variant for the checkpoint me/Qwen3-8B-X",
        "no variant for the checkpoint me/new",
    ]


def snapshot(folder: Path, recipes: list[dict[str, Any]], rows: list[dict[str, Any]]) -> refresh.Snapshot:
    return refresh.snapshot(write(folder / "recipes.json", recipes), write(folder / "sizes.json", rows), TODAY)


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path
