"""What GPUs cost per hour, as the user's prices.toml says, in the user's currency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pi.errors import InputError
from pi.planning.gpu_kinds import Kind
from pi.planning.gpu_words import kind_named

LARGEST = 1e9
"""Highest price of a GPU hour, in any currency."""


def read(table: Mapping[str, Any], source: str) -> dict[str, float]:
    """Return the price of a GPU hour by kind. Raises InputError with `source` and the entry that is wrong."""
    prices: dict[str, float] = {}
    for name, price in table.items():
        try:
            kind = kind_named(name)
        except InputError as error:
            raise InputError("price-of-unknown-gpu", f"{source}: {error.message}", error.hint) from None
        if not _is_price(price):
            raise InputError(
                "price-invalid",
                f"{source}: {name}: invalid price {price!r}",
                "use a positive number per GPU hour, such as 0.44",
            )
        if kind.name in prices:
            raise InputError("price-twice", f"{source}: {name}: {kind.title} has two prices", "remove one of them")
        prices[kind.name] = float(price)
    return prices


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LARGEST


def per_hour(prices: Mapping[str, float], kind: Kind | None, count: int) -> float | None:
    """Return the price of `count` GPUs per hour, or None if the user keeps none for their kind."""
    price = prices.get(kind.name) if kind else None
    return None if price is None else price * count


def amount(price: float) -> str:
    """Format a price with two decimals, or three digits if it is small."""
    return f"{price:.2f}" if price >= 0.1 else f"{price:.3g}"


def with_price(machine: str, price: float | None) -> str:
    """Return a machine's name with its price, such as "2x RTX 4090 (0.88 per hour)"."""
    return machine if price is None else f"{machine} ({amount(price)} per hour)"
