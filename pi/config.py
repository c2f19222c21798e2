"""The folder of pi's own files on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from pi.errors import InputError


def config_dir() -> Path:
    """Return `PI_CONFIG_DIR`, or `~/.pi` if it is unset. Raises InputError if its user does not exist."""
    given = os.environ.get("PI_CONFIG_DIR") or "~/.pi"
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError:
        raise InputError("config-dir-unknown-home", f"PI_CONFIG_DIR {given!r}: no such user") from None
