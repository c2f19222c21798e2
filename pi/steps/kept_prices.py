"""The user's prices of GPUs: prices.toml in the config directory."""

from __future__ import annotations

from pi import config
from pi.errors import InputError
from pi.planning import catalog, prices

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
