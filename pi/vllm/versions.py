"""Versions of vLLM: which is older, and which serves a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

NIGHTLY = "nightly"
"""The floor of a model that no release of vLLM serves yet."""


def too_old(version: str | None, floor: str | None) -> bool:
    """Whether a version of vLLM is below a floor; where either is unknown it is not."""
    if not version or not floor:
        return False
    if floor == NIGHTLY:
        return not is_nightly(version)
    return version_numbers(version) < version_numbers(floor)


def is_nightly(version: str) -> bool:
    """Whether a version of vLLM is that of a build between releases, such as "0.33.1.dev12+g1a2b3c4"."""
    return ".dev" in version


def latest(floors: Iterable[str | None]) -> str | None:
    """The highest of some floors; None where there is none."""
    known = (floor for floor in floors if floor)
    return max(known, key=lambda floor: (floor == NIGHTLY, version_numbers(floor)), default=None)


@lru_cache(maxsize=256)
def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: "0.32.0+cpu" is (0, 32, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
