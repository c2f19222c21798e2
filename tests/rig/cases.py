"""Cases as data: each is a NAME.toml in a folder of tests/cases, described in that folder's README.md."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CASES = Path(__file__).parents[1] / "cases"

Case = TypeVar("Case")


SHARE = 4 if os.environ.get("PI_TEST_CASES") == "first" else 1
"""Where a test has thousands of combinations, `make test` tries one of so many values, and other runs try all."""


def share(values: Sequence[Case], name: str) -> Sequence[Case]:
    """Return the values that this run tries; in `make test` they differ by name."""
    return values[zlib.crc32(name.encode()) % SHARE :: SHARE]


def names(folder: Path) -> list[str]:
    """Return the names of a folder's cases."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def load(kind: type[Case], path: Path) -> Case:
    """Read the case in `path` as a `kind`, a dataclass with a field for each key.

    A file NAME.KEY in the same folder also sets a key. Raises ValueError if a key is missing, unknown or set twice.
    """
    values = read_toml(path)
    for file in sorted(path.parent.glob(f"{path.stem}.*")):
        key = file.suffix[1:]
        if file == path:
            continue
        if key in values:
            raise ValueError(f"{path}: {key} is also in {file.name}")
        values[key] = file.read_bytes().decode()
    fields = signature(kind).parameters
    if unknown := sorted(values.keys() - fields.keys()):
        raise ValueError(f"{path}: unknown {', '.join(unknown)}; use {', '.join(fields)}")
    required = {name for name, key in fields.items() if key.default is key.empty}
    if missing := sorted(required - values.keys()):
        raise ValueError(f"{path}: missing {', '.join(missing)}")
    return kind(**values)


def strays(folder: Path) -> list[str]:
    """Return the names of files that belong to no case."""
    cases = set(names(folder))
    return sorted(path.name for path in folder.iterdir() if path.stem not in cases and path.name != "README.md")
