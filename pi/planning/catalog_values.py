"""Check and read single values of models.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pi.planning.network import Cache as CacheKind
from pi.planning.network import Layers
from pi.vllm.versions import NIGHTLY

LARGEST_SIZE = 2**40


def layers(table: Mapping[str, Any]) -> Layers:
    """Read a group of layers; values are as wide as keys if `value_dim` is missing. Raises ValueError."""
    if table["cache"] not in get_args(CacheKind):
        raise ValueError(f"a layer keeps one of {', '.join(get_args(CacheKind))}, not {table['cache']!r}")
    sizes = {"ratio": 1, "value_dim": table.get("key_dim", 0), **table}
    places, mamba2 = sizes.pop("at", []), sizes.pop("mamba2", False)
    if not isinstance(mamba2, bool):
        raise ValueError(f"mamba2 of a layer is true or false, not {mamba2!r}")
    if not isinstance(places, list) or (places and len(places) != sizes.get("count")) or places != sorted(places):
        raise ValueError(f"at of a layer are not `count` blocks in ascending order: {places!r}")
    for name, value in sizes.items():
        if name != "cache":
            size(f"{name} of a layer", value, least=int(name == "ratio"))
    return Layers(**sizes, mamba2=mamba2, at=tuple(size("a block in at", place) for place in places))


def size(name: str, value: object, least: int = 0) -> int:
    """Return a size from a catalog. Raises ValueError if it is not a number of a possible size."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < LARGEST_SIZE:
        raise ValueError(f"{name} is not a size: {value!r}")
    return value


def requirement(package: str) -> str:
    """Return a pip requirement. Raises ValueError if it is not one."""
    if not re.match(r"[A-Za-z0-9]", package) or not package.isprintable():
        raise ValueError(f"{package!r} is not a package such as timm or timm==1.0.0")
    return package


def capability(text: str) -> tuple[int, int]:
    """Return a compute capability, such as (9, 0). Raises ValueError if it is not one."""
    found = re.fullmatch(r"(\d{1,2})\.(\d)", text, re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is not a compute capability such as 9.0")
    return int(found[1]), int(found[2])


def min_vllm(table: Mapping[str, Any]) -> str | None:
    """Return the first vLLM that serves an entry: a release, "nightly", or None. Raises ValueError."""
    version: str | None = table.get("floor")
    return version if version == NIGHTLY else release(version)


def release(version: str | None) -> str | None:
    """Return a vLLM release, or None. Raises ValueError if it is not one."""
    if version is not None and not re.fullmatch(r"\d+(\.\d+)*", version, re.ASCII):
        raise ValueError(f"{version!r} is not a vLLM release such as 0.32.0")
    return version


def check_keys(table: Mapping[str, Any], allowed: frozenset[str]) -> None:
    """Raise ValueError if a table has keys that are not allowed."""
    unknown = sorted(set(table) - allowed)
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}")
