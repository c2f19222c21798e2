"""The folder of pi's own files on this machine, and its settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from pi.errors import InputError

SETTINGS = "config.toml"
"""File in pi's folder: `catalog_url = "https://..."` is where `pi models --refresh` finds a newer catalog, and
`ssh_persist = 0` switches warm connections off (`pi.ssh.masters`)."""


def config_dir() -> Path:
    """Return `PI_CONFIG_DIR`, or `~/.pi` if it is unset. Raises InputError if its user does not exist."""
    given = os.environ.get("PI_CONFIG_DIR") or "~/.pi"
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError:
        raise InputError("config-dir-unknown-home", f"PI_CONFIG_DIR {given!r}: no such user") from None


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, each for this user alone. Raises OSError."""
    if not folder.parent.exists():
        make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def setting(folder: Path, key: str) -> str | None:
    """Return a text from config.toml in the folder, or None. Raises InputError if the file is invalid."""
    value = value_of(folder, key)
    if value is not None and not isinstance(value, str):
        raise InputError("settings-invalid", f"{folder / SETTINGS}: {key} is not a text")
    return value


def value_of(folder: Path, key: str) -> object:
    """Return a value of any type from config.toml in the folder, or None. Raises InputError if the file is invalid."""
    file = folder / SETTINGS
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened).get(key)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError("settings-unreadable", f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError("settings-invalid", f"{file}: {problem}") from None
