"""Make the tables `sizes` of models.toml from a snapshot of vLLM's recipes and of the sizes of checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pi.planning import catalog
from pi.planning.catalog import Catalog

DATA = Path(__file__).with_name("data")
RECIPES, SIZES = DATA / "recipes.json", DATA / "sizes.json"
"""The snapshot that models.toml is made of."""

MARK = "# ------- sizes: made by `inv models.refresh`; write nothing by hand below this line\n"

RECIPES_SOURCE = "vllm-project/recipes"


@dataclass(frozen=True)
class Snapshot:
    """What was read: recipes as vLLM's recipes publish them, and one row for each measured checkpoint.

    A row has `id`, `gb` (10^9 bytes), `source` and `date`. `date` and `source` are those of the recipes.
    """

    recipes: list[dict[str, Any]]
    sizes: list[dict[str, Any]]
    date: str
    source: str


@dataclass
class Table:
    """The numbers of one source."""

    date: str
    weights_gb: dict[str, float] = field(default_factory=dict)
    minimum_gb: dict[str, float] = field(default_factory=dict)


def snapshot(recipes: Path, sizes: Path, today: date) -> Snapshot:
    """Read the two files. Bare lists have no date, so they count as read `today`."""
    read, rows = (json.loads(path.read_text("utf-8")) for path in (recipes, sizes))
    envelope: dict[str, Any] = {"recipes": read} if isinstance(read, list) else read
    day = str(today)
    return Snapshot(
        recipes=envelope["recipes"],
        sizes=[{"date": day, **row} for row in (rows if isinstance(rows, list) else rows["sizes"])],
        date=envelope.get("date", day),
        source=envelope.get("source", RECIPES_SOURCE),
    )


def refreshed(text: str, read: Snapshot) -> str:
    """Return models.toml with the snapshot's date and its sizes in place of the old ones."""
    by_hand, _, _ = text.partition(MARK)
    dated = re.sub(r'^date = ".*"$', f'date = "{read.date}"', by_hand, count=1, flags=re.MULTILINE)
    return f"{dated.rstrip()}\n\n\n{MARK}{layer(read)}"


def layer(read: Snapshot) -> str:
    """Return the TOML tables of the snapshot: one for each source and date, their ids in alphabetical order.

    Raises ValueError if two rows measure the same checkpoint.
    """
    tables = _tables(read)
    return "".join(_toml(source, tables[source]) for source in sorted(tables))


def _tables(read: Snapshot) -> dict[str, Table]:
    tables = {read.source: Table(read.date, minimum_gb=_minimums(read.recipes))}
    seen: set[str] = set()
    for row in read.sizes:
        if row["id"] in seen:
            raise ValueError(f"two sizes of {row['id']}")
        seen.add(row["id"])
        source = row["source"]
        if source in tables and tables[source].date != row["date"]:
            source = f"{source}, {row['date']}"
        tables.setdefault(source, Table(row["date"])).weights_gb[row["id"]] = row["gb"]
    return tables


def _minimums(recipes: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the memory that recipes name, by checkpoint. Of two variants with the same files, the first counts."""
    minimums: dict[str, float] = {}
    for recipe, variant in _variants(recipes):
        if "vram_minimum_gb" in variant:
            minimums.setdefault(variant.get("model_id", recipe["model_id"]), variant["vram_minimum_gb"])
    return minimums


def _variants(recipes: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return ((recipe, variant) for recipe in recipes for variant in recipe["variants"].values())


def _toml(source: str, table: Table) -> str:
    name = f"sizes.{json.dumps(source)}"
    lines = [f"\n[{name}]", f'date = "{table.date}"']
    for key, numbers in (("weights_gb", table.weights_gb), ("minimum_gb", table.minimum_gb)):
        if numbers:
            lines += ["", f"[{name}.{key}]"]
            lines += [f"{json.dumps(model)} = {numbers[model]:.12g}" for model in sorted(numbers)]
    return "\n".join(lines) + "\n"


def news(read: Snapshot, known: Catalog) -> list[str]:
    """Describe what needs a hand: recipes and checkpoints that the catalog lacks, and contexts that differ."""
    lines = []
    for recipe in read.recipes:
        entry = known.find(recipe["model_id"])
        if entry is None:
            lines.append(f"no entry for the recipe of {recipe['model_id']}")
        elif recipe.get("context_length", entry[0].context) != entry[0].context:
            lines.append(
                f"{recipe['model_id']}: the recipe has a context of {recipe['context_length']}, not {entry[0].context}"
            )
    ids = {variant.get("model_id", recipe["model_id"]) for recipe, variant in _variants(read.recipes)}
    lines += [f"no variant for the checkpoint {model}" for model in sorted(ids) if known.find(model) is None]
    return lines


def report(catalog_file: Path, recipes: str, sizes: str) -> None:
    """Rewrite the catalog from the snapshot, or from newer files, and print what needs a hand."""
    read = snapshot(Path(recipes or RECIPES), Path(sizes or SIZES), date.today())
    text = refreshed(catalog_file.read_text("utf-8"), read)
    known = catalog.read(catalog.parsed(text, str(catalog_file)), str(catalog_file))
    catalog_file.write_text(text, "utf-8")
    variants = [variant for spec in known.models for variant in spec.variants]
    estimated = sum(variant.estimated for variant in variants)
    print(f"catalog of {read.date}: {len(known.models)} models, {len(variants)} checkpoints, {estimated} estimated")
    for line in news(read, known):
        print(f"  {line}")
