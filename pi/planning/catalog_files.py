"""The files of the catalog: the one that pi ships, a newer one in pi's folder, and the user's own."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from pi.errors import InputError

SHIPPED = Path(__file__).parents[1] / "models.toml"
"""The catalog that pi ships: in a checkout, a link to models.toml at the top."""


def fetched_in(config_dir: Path) -> Path:
    """Return the place of the catalog that `pi models --refresh` keeps."""
    return config_dir / "catalog" / "models.toml"


def newest(config_dir: Path | None) -> Path:
    """Return the fetched catalog if it is newer than the shipped one, else the shipped one."""
    fetched = fetched_in(config_dir) if config_dir else None
    is_newer = fetched is not None and is_there(fetched) and _date_in(fetched) > _date_in(SHIPPED)
    return fetched if fetched is not None and is_newer else SHIPPED


def is_there(file: Path) -> bool:
    """Return whether a file exists. Raises InputError if its folder belongs to another user."""
    try:
        return file.is_file()
    except OSError as error:
        raise InputError("catalog-unreadable", f"cannot read {file}: {error.strerror}") from None


def _date_in(file: Path) -> str:
    """Return the date of a catalog without parsing it all: tomllib needs 30 ms."""
    dated = re.search(rb'^date = "([0-9-]*)"', file.read_bytes(), re.MULTILINE)
    return dated[1].decode() if dated else ""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file of TOML. Raises InputError if it is not valid."""
    return parsed(path.read_bytes(), str(path))


def parsed(text: str | bytes, source: str) -> dict[str, Any]:
    """Parse TOML. Raises InputError with its `source` if it is not valid."""
    try:
        return tomllib.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError("catalog-unreadable", f"{source}: {problem}") from None


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the tables `below`, with the keys of `above` over theirs. Lists are replaced, not joined."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
