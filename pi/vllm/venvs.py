"""The folders of vLLM's venvs on a pod."""

from __future__ import annotations

import re
from collections.abc import Mapping

VENV = "venv"
"""Folder of the default venv in the pod's home."""


def is_extra_venv(folder: object) -> bool:
    """Return whether setup makes extra venvs of this name, which holds the requested vLLM."""
    return isinstance(folder, str) and bool(re.fullmatch(r"venv-(nightly|\d+(\.\d+)*)", folder, re.ASCII))


def extra_venvs(reported: Mapping[str, str]) -> dict[str, str]:
    """Keep the folders that setup makes, of those that a pod reported."""
    return {folder: version for folder, version in reported.items() if is_extra_venv(folder)}
