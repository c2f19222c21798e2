"""What vLLM measured at earlier starts, by checkpoint, card and settings: types, and the text of measurements.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pi.vllm.measured import COUNTS, Measured

VERSION = 1

MOST = 500
"""Starts that the file keeps; the oldest are dropped."""

LONGEST = 1000
"""Characters of a text in the file."""

SIZES = ("tensor", "pipeline", "data")

TEXTS = ("checkpoint", "card", "vllm", "max_num_seqs", "max_num_batched_tokens", "arguments")


@dataclass(frozen=True)
class Setting:
    """What decides the memory of a model: another pod with the same card measures the same."""

    checkpoint: str
    card: str
    """Name and GB of the card, or "CPU"."""
    tensor: int
    pipeline: int
    data: int
    vllm: str
    share: float | None
    """Share of each GPU's memory, 0 to 1."""
    max_num_seqs: str
    max_num_batched_tokens: str
    arguments: str
    """A digest of the other arguments that change the memory."""


@dataclass(frozen=True)
class Measurement:
    """Figures of the last start with a setting, and the values that vLLM required then, by option."""

    measured: Measured
    corrections: Mapping[str, str] = field(default_factory=dict)
    day: str = ""
    """Such as "2026-11-29"."""


Measurements = Mapping[Setting, Measurement]


def read(raw: bytes) -> dict[Setting, Measurement]:
    """Return the measurements in the text of the file, the oldest first. Raises ValueError if it is invalid."""
    try:
        document = json.loads(raw)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError(f"it has another format than {VERSION}")
    rows = document.get("measurements")
    if not isinstance(rows, list):
        raise ValueError("measurements is not a list")
    return dict(map(_row, rows[-MOST:]))


def written(measurements: Measurements) -> str:
    rows = [
        {**asdict(setting), "day": one.day, "corrections": dict(one.corrections), "measured": _known(one.measured)}
        for setting, one in list(measurements.items())[-MOST:]
    ]
    return json.dumps({"version": VERSION, "measurements": rows}, indent=1, allow_nan=False) + "\n"


def _known(measured: Measured) -> dict[str, float]:
    return {name: value for name, value in asdict(measured).items() if value is not None}


def _row(row: Any) -> tuple[Setting, Measurement]:
    if not isinstance(row, dict):
        raise ValueError("a measurement is not an object")
    texts: dict[str, Any] = {name: _text(row, name) for name in TEXTS}
    sizes: dict[str, Any] = {name: _count(row, name) for name in SIZES}
    share = None if row.get("share") is None else _number(row, "share")
    figures, corrections = row.get("measured"), row.get("corrections")
    if not isinstance(figures, dict) or not isinstance(corrections, dict):
        raise ValueError("a measurement has no figures")
    options = {option: _text(corrections, option) for option in corrections}
    return Setting(**texts, **sizes, share=share), Measurement(_measured(figures), options, _text(row, "day"))


def _measured(figures: Mapping[str, Any]) -> Measured:
    known = (one.name for one in fields(Measured) if one.name in figures)
    values: dict[str, Any] = {
        name: _count(figures, name) if name in COUNTS else _number(figures, name) for name in known
    }
    return Measured(**values)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST:
        raise ValueError(f"{name} is not a text")
    return value


def _count(row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"{name} is not a whole number")
    return value


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or abs(value) > 1e12:
        raise ValueError(f"{name} is not a number")
    return float(value)
