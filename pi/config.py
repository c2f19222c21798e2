"""Where pi keeps its own files on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from pi.errors import InputError


def config_dir() -> Path:
    """`PI_CONFIG_DIR`, or `~/.pi`."""
    given = os.environ.get("PI_CONFIG_DIR") or "~/.pi"
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError:
        raise InputError("config-dir-unknown-home", f"PI_CONFIG_DIR {given!r} names the home of nobody") from None
