"""The user's prices of GPUs: prices.toml in the config directory."""

from __future__ import annotations

from collections.abc import Iterable

from pi import config
from pi.errors import InputError
from pi.planning import catalog, hardware, prices
from pi.pods.gpus import Gpu, is_slice

FILE = "prices.toml"


def load() -> dict[str, float]:
    """Return the price of a GPU hour by kind; empty without a file. Raises InputError naming file and entry."""
    file = config.config_dir() / FILE
    try:
        table = catalog.read_toml(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError("prices-unreadable", f"cannot read {file}: {error.strerror}") from None
    except InputError as error:
        raise InputError("prices-invalid", error.message, 'write one price a line: "RTX 4090" = 0.44') from None
    return prices.read(table, str(file))


def of_gpus(gpus: Iterable[Gpu]) -> float | None:
    """Return the price of an hour of these GPUs, or None if the user keeps none for one of them.

    Raises InputError if prices.toml is invalid.
    """
    kept = load()
    each = [None if is_slice(gpu) else prices.per_hour(kept, hardware.kind(gpu), 1) for gpu in gpus]
    known = [price for price in each if price is not None]
    return sum(known) if len(known) == len(each) else None
