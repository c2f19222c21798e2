"""Compare versions of vLLM."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

NIGHTLY = "nightly"
"""Minimum of a model that no vLLM release serves yet."""


def too_old(version: str | None, minimum: str | None) -> bool:
    """Return whether a vLLM is older than a minimum; False if either is unknown."""
    if not version or not minimum:
        return False
    if minimum == NIGHTLY:
        return not is_nightly(version)
    return version_numbers(version) < version_numbers(minimum)


def is_nightly(version: str) -> bool:
    """Return whether a version is a build between releases, such as "0.33.1.dev12+g1a2b3c4"."""
    return ".dev" in version


def latest(minimums: Iterable[str | None]) -> str | None:
    """Return the highest minimum, or None if all are None."""
    given = (minimum for minimum in minimums if minimum)
    return max(given, key=lambda minimum: (minimum == NIGHTLY, version_numbers(minimum)), default=None)


@lru_cache(maxsize=256)
def version_numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: "0.32.0+cpu" is (0, 32, 0)."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()
