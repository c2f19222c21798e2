"""Read and change the file measurements.json. It only helps the planner: no failure here stops a verb."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from pi import screen
from pi.config import config_dir
from pi.errors import PiError
from pi.planning import measurements
from pi.planning.measurements import Measurement, Measurements, Setting
from pi.pods import state
from pi.vllm.measured import Measured

LARGEST = 4 * 1024 * 1024
"""Bytes of the file that are read; 500 starts need about 300 KiB."""


def path() -> Path:
    return config_dir() / "measurements.json"


def load() -> Measurements:
    """Return the measurements of earlier starts; none, with a warning, if the file is damaged."""
    try:
        return _read()
    except (OSError, ValueError) as error:
        screen.note(f"warning: ignoring {path()}: {_reason(error)}")
        return {}


def _saved() -> Measurements:
    """Return what `load` returns, without a second warning."""
    try:
        return _read()
    except (OSError, ValueError):
        return {}


def _read() -> Measurements:
    try:
        with path().open("rb") as file:
            return measurements.read(file.read(LARGEST))
    except FileNotFoundError:
        return {}


def keep(setting: Setting, measured: Measured, corrections: Mapping[str, str]) -> None:
    """Save the figures of a start as the newest. Warns if the file cannot be written.

    A start that takes the KV cache's size from an earlier one measures less; the other figures of that one stay.
    """
    try:
        with state.locked(config_dir() / "measurements.json.lock"):
            others = dict(_saved())
            before = others.pop(setting, None)
            figures = measured.over(before.measured) if before else measured
            newest = Measurement(figures, corrections, time.strftime("%Y-%m-%d"))
            _write(measurements.written({**others, setting: newest}))
    except (OSError, ValueError, PiError) as error:
        screen.note(f"warning: what vLLM measured is not saved: {_reason(error)}")


def _write(text: str) -> None:
    """Replace the file as a whole; other users cannot read it."""
    fresh = path().with_name("measurements.json.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path())


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
