"""Sizes of checkpoints: the tables `sizes` of models.toml, which `inv models.refresh` makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """Sizes of a checkpoint in 10^9 bytes, or None if unknown.

    `weights_gb` is the sum of its weights' files, `minimum_gb` the GPU memory that its recipe names.
    """

    weights_gb: float | None = None
    minimum_gb: float | None = None


UNKNOWN = Size()

_KEYS = frozenset(["date", "weights_gb", "minimum_gb"])


def read(tables: Mapping[str, Any]) -> dict[str, Size]:
    """Return the sizes by id in lower case. `tables` has one table for each source.

    Raises ValueError, TypeError or AttributeError if a table is invalid.
    """
    weights: dict[str, float] = {}
    minimums: dict[str, float] = {}
    for source, table in tables.items():
        unknown = sorted(set(table) - _KEYS)
        if unknown:
            raise ValueError(f"{source}: unknown key {', '.join(unknown)}")
        for key, numbers in (("weights_gb", weights), ("minimum_gb", minimums)):
            numbers.update({name.lower(): _positive(name, number) for name, number in table.get(key, {}).items()})
    return {name: Size(weights.get(name), minimums.get(name)) for name in weights.keys() | minimums.keys()}


def _positive(name: str, number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < float("inf"):
        raise ValueError(f"the size of {name} is not a number of GB")
    return float(number)
