"""Read typed fields of a `config.json`.

A field of the wrong type or an absurd size counts as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Table = Mapping[str, Any]

MAX_COUNT = 10**12
"""Largest number that a field may have."""

MAX_LAYERS = 4096
"""Largest number of layers that pi reads."""

MAX_WORD = 200
"""Longest name or pattern that pi reads, in characters per layer or word."""


def count(table: Table, *names: str) -> int:
    """Return the first positive whole number among the fields `names`, or 0."""
    return next((number for number in (_positive(table.get(name)) for name in names) if number), 0)


def _positive(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT:
        return value
    return 0


def section(table: Table, name: str) -> Table:
    """Return the table `name`, empty if it is missing."""
    value = table.get(name)
    return value if isinstance(value, Mapping) else {}


def entries(table: Table, name: str) -> list[Any]:
    """Return the list `name`, empty if it is missing or has more than `MAX_LAYERS` entries."""
    value = table.get(name)
    return list(value) if isinstance(value, list | tuple) and len(value) <= MAX_LAYERS else []


def word(table: Table, *names: str) -> str:
    """Return the first text among the fields `names` in lower case, or ""."""
    for name in names:
        value = table.get(name)
        if isinstance(value, str) and value and len(value) <= MAX_WORD:
            return value.lower()
    return ""


def pattern(table: Table, name: str) -> str:
    """Return the text `name` with one character for each layer, or ""."""
    value = table.get(name)
    return value if isinstance(value, str) and len(value) <= MAX_LAYERS else ""


def positions(table: Table, name: str) -> frozenset[int]:
    """Return the layer numbers in the list `name`."""
    return frozenset(item for item in entries(table, name) if isinstance(item, int) and not isinstance(item, bool))
