"""How long the steps of earlier setups and starts took, in durations.json. It only informs: no failure stops a verb."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pi.config import config_dir
from pi.errors import PiError
from pi.pods import state

LARGEST = 1024 * 1024
"""Bytes of the file that are read; 200 entries need about 50 KiB."""

KEPT = 200
"""Entries that are kept, the newest ones."""

LONGEST_S = 10**6


def path() -> Path:
    return config_dir() / "durations.json"


def load(work: str) -> dict[str, float]:
    """Return the seconds of each step of a work such as "setup box", as it took last time; empty if unknown."""
    return _all().get(work, {})


def keep(work: str, steps: Mapping[str, float]) -> None:
    """Save how long the steps of a work took; others of the same work stay."""
    if not steps:
        return
    try:
        config_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
        with state.locked(config_dir() / "durations.json.lock"):
            saved = _all()
            newest = {**saved.pop(work, {}), **{name: round(took, 1) for name, took in steps.items()}}
            kept = dict([*saved.items(), (work, newest)][-KEPT:])
            _write(json.dumps(kept, indent=1) + "\n")
    except (OSError, ValueError, PiError):
        return


def _all() -> dict[str, dict[str, float]]:
    try:
        with path().open("rb") as file:
            saved = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(saved, dict):
        return {}
    return {work: _numbers(steps) for work, steps in saved.items() if isinstance(steps, dict)}


def _numbers(steps: Mapping[str, object]) -> dict[str, float]:
    return {name: took for name, took in steps.items() if type(took) in (int, float) and 0 <= took < LONGEST_S}  # type: ignore[operator, misc]


def _write(text: str) -> None:
    """Replace the file as a whole; other users cannot read it."""
    fresh = path().with_name("durations.json.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path())
