"""Results of `pi bench`: tables, comparisons, and files in pi's folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi import config, screen
from pi.calls.bench import BenchAnswer, Spread
from pi.calls.validation import checked
from pi.errors import InputError, PiError

LARGEST = 1 << 20
"""Bytes of a saved result; ten levels need about 5,000."""

HEADERS = ("AT ONCE", "REQ/S", "OUT/S", "ALL/S", "TTFT P50/P95/P99", "TPOT P50/P95/P99", "ITL P50/P95/P99", "FAILED")

LEAST_REQUESTS, REQUESTS_EACH = 8, 4
"""Requests of a level: four for each that runs at the same time, and at least eight."""


@dataclass(frozen=True)
class Level:
    """What vLLM measured with so many requests at the same time."""

    concurrency: int
    found: BenchAnswer

    def row(self) -> tuple[str, ...]:
        found = self.found
        return (
            str(self.concurrency),
            f"{found['requests_per_s']:.2f}",
            _short(found["output_tokens_per_s"]),
            _short(found["total_tokens_per_s"]),
            *(_spread(found[key]) for key in ("ttft", "tpot", "itl")),
            str(found["failed"]),
        )


@dataclass(frozen=True)
class Result:
    """A whole run. `tokens` are those of the input and of the output of each request."""

    name: str
    pod: str
    tokens: tuple[int, int]
    levels: tuple[Level, ...]


def requests_of(concurrency: int) -> int:
    return max(LEAST_REQUESTS, REQUESTS_EACH * concurrency)


def folder() -> Path:
    return config.config_dir() / "bench"


def show(result: Result) -> None:
    """Print the table of a run. Times are in milliseconds."""
    screen.table([level.row() for level in result.levels], HEADERS)
    screen.say(f"  times in ms; each request has {result.tokens[0]} tokens of input and {result.tokens[1]} of output")


def save(result: Result) -> Path:
    """Write a run into a file of pi's folder. Raises InputError."""
    document = {
        "name": result.name,
        "pod": result.pod,
        "tokens": list(result.tokens),
        "levels": [{"concurrency": level.concurrency, "found": level.found} for level in result.levels],
    }
    path = folder() / f"{result.name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    try:
        config.make_private(path.parent)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise InputError("bench-file-unwritable", f"cannot write {path}: {error.strerror}") from None
    return path


def load(text: str) -> Result:
    """Return a saved run: a path, or the name of a file in pi's folder. Raises InputError."""
    path = Path(text)
    if not path.exists():
        path = folder() / f"{text.removesuffix('.json')}.json"
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(LARGEST))
        levels = tuple(map(_level, document["levels"]))
        tokens = (int(document["tokens"][0]), int(document["tokens"][1]))
        return Result(str(document["name"]), str(document["pod"]), tokens, levels)
    except OSError as error:
        saved = ", ".join(each.stem for each in sorted(folder().glob("*.json"))[-5:]) or "none"
        raise InputError("bench-file-unreadable", f"cannot read {text}: {error.strerror}", f"saved: {saved}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, PiError):
        raise InputError("bench-file-invalid", f"{path} is not a result of pi bench --save") from None


def _level(document: Any) -> Level:
    return Level(int(document["concurrency"]), checked(BenchAnswer, document["found"], "found"))


def compare(one: Result, other: Result) -> None:
    """Print the levels that two runs share, and the change from the first to the second."""
    before = {level.concurrency: level.found for level in one.levels}
    shared = [
        (level.concurrency, before[level.concurrency], level.found)
        for level in other.levels
        if level.concurrency in before
    ]
    if not shared:
        raise InputError("bench-not-comparable", "these results have no level of concurrency in common")
    if one.tokens != other.tokens:
        screen.note(f"warning: their requests differ: {one.tokens} and {other.tokens} tokens of input and output")
    rows = [
        (
            concurrency,
            _change(old["requests_per_s"], new["requests_per_s"]),
            _change(old["output_tokens_per_s"], new["output_tokens_per_s"]),
            *(_change(_p50(old, key), _p50(new, key)) for key in ("ttft", "tpot", "itl")),
        )
        for concurrency, old, new in shared
    ]
    screen.table(rows, ("AT ONCE", "REQ/S", "OUT/S", "TTFT P50", "TPOT P50", "ITL P50"))


def _p50(found: BenchAnswer, key: str) -> float:
    spreads: dict[str, Spread] = {"ttft": found["ttft"], "tpot": found["tpot"], "itl": found["itl"]}
    return spreads[key]["p50"]


def _change(old: float, new: float) -> str:
    """Format a change, such as "12.0 -> 18.0 (+50 %)"."""
    percent = f" ({100 * (new - old) / old:+.0f} %)" if old else ""
    return f"{_short(old)} -> {_short(new)}{percent}"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def _spread(spread: Spread) -> str:
    return " / ".join(_short(spread[key]) for key in ("p50", "p95", "p99"))


def curve(result: Result) -> tuple[Sequence[float], Sequence[float], Sequence[str]]:
    """Return throughput, latency and label of each level, for a plot."""
    found = [level.found for level in result.levels]
    return (
        [each["output_tokens_per_s"] for each in found],
        [each["itl"]["p50"] for each in found],
        [str(level.concurrency) for level in result.levels],
    )
