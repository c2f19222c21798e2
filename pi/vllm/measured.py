"""What vLLM measures of its memory while it starts, read from its log: the forms of vLLM 0.20 to 0.33, GPU and CPU.

Sizes are in GiB for one GPU. With several GPUs, each rank logs its own; the fullest rank counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from pi.vllm.start_facts import DEFAULT_SEQUENCES

LONGEST_LINE = 4096
"""Characters of one line that are read."""


USUAL_REQUEST = 16384
"""Tokens of a long request of an agent; the requests beside each other are counted in these."""


@dataclass(frozen=True)
class Measured:
    """Figures of one start; None if the log lacks them."""

    loading_gib: float | None = None
    """Weights in memory."""
    loading_s: float | None = None
    kv_gib: float | None = None
    """Room for the KV cache."""
    kv_tokens: int | None = None
    """Tokens in that room, counted for requests of the whole context."""
    context: int | None = None
    """Longest context in tokens that the server accepts."""
    fitted_context: int | None = None
    """The same, if vLLM chose it (`--max-model-len auto`): the longest that fits, or the model's own."""
    concurrency: float | None = None
    """Requests of the whole context that fit at a time."""
    consumed_gib: float | None = None
    """Weights and memory outside PyTorch."""
    activation_gib: float | None = None
    """Peak of activations; since vLLM 0.27 with its estimate of CUDA graphs."""
    graphs_gib: float | None = None
    total_gib: float | None = None
    """The GPU's memory as CUDA reports it."""
    allowed_gib: float | None = None
    """The model's share of it."""
    compile_s: float | None = None
    """Time of torch.compile; short if its cache was warm."""

    def __bool__(self) -> bool:
        return bool(self._known())

    def over(self, before: Measured) -> Measured:
        """Return these figures, with those of an earlier start for the ones that are unknown."""
        return replace(before, **self._known())

    def _known(self) -> dict[str, Any]:
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


COUNTS = frozenset({"kv_tokens", "context", "fitted_context"})
"""Figures that are whole numbers."""


class LogReader:
    """Reads a log in pieces, which may begin and end anywhere in a line."""

    def __init__(self) -> None:
        self.measured = Measured()
        self._pending = ""

    def feed(self, text: str) -> None:
        *lines, rest = re.split(r"[\r\n]", self._pending + text)
        for line in lines:
            self._read(line)
        self._pending = rest[:LONGEST_LINE]

    def _read(self, line: str) -> None:
        for pattern, merge, names in FIGURES:
            if match := pattern.search(line[:LONGEST_LINE]):
                for name, text in zip(names, match.groups(), strict=True):
                    if text is not None:
                        self._note(name, _number(text), merge)

    def _note(self, name: str, value: float, merge: Callable[[float, float], float]) -> None:
        before = getattr(self.measured, name)
        merged = value if before is None else merge(before, value)
        figure: Any = int(merged) if name in COUNTS else merged
        self.measured = replace(self.measured, **{name: figure})


def read(log: str) -> Measured:
    reader = LogReader()
    reader.feed(log + "\n")
    return reader.measured


def room(context: int, kv_tokens: int | None, sequences: int | None) -> str:
    """Describe what fits, such as "131072 tokens for one request, about 8 at a time of 16384".

    `sequences` is the most that vLLM serves at a time.
    """
    each = min(context, USUAL_REQUEST)
    fitting = min((kv_tokens or 0) // each, sequences or DEFAULT_SEQUENCES)
    if fitting < 2:
        return f"{context} tokens"
    return f"{context} tokens for one request, about {fitting} at a time of {each}"


def _number(text: str) -> float:
    return float(text.replace(",", ""))


_GIB = r"(-?\d{1,6}(?:\.\d{1,6})?)"

_COUNT = r"(\d[\d,]{0,14})"

_SECONDS = r"(\d{1,7}(?:\.\d{1,6})?)"

FIGURES: tuple[tuple[re.Pattern[str], Callable[[float, float], float], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), merge, names)
    for pattern, merge, names in (
        (rf"Model loading took {_GIB} Gi?B(?: memory)? and {_SECONDS} seconds", max, ("loading_gib", "loading_s")),
        (rf"Available KV cache memory: {_GIB} GiB", min, ("kv_gib",)),
        (rf"reserved {_GIB} GiB memory for KV Cache as specified by kv_cache_memory_bytes", min, ("kv_gib",)),
        (rf"(?:Explicitly|Auto) set \({_GIB}/\d[\d.]*\) GiB for KV cache", min, ("kv_gib",)),
        (rf"KV cache size: {_COUNT} tokens", min, ("kv_tokens",)),
        (rf"Maximum concurrency for {_COUNT} tokens per request: {_SECONDS}x", min, ("context", "concurrency")),
        (rf"Auto-fit max_model_len: reduced from \d+ to {_COUNT} ", min, ("fitted_context",)),
        (rf"Auto-fit max_model_len: full model context length {_COUNT} ", min, ("fitted_context",)),
        (rf"Graph capturing finished in \d+ secs, took {_GIB} GiB", max, ("graphs_gib",)),
        (
            rf"Free memory on device \S{{0,20}} ?\(\d[\d.]*/{_GIB} GiB\) on startup. Desired GPU memory utilization is"
            rf" \([\d.]+, {_GIB} GiB\)",
            min,
            ("total_gib", "allowed_gib"),
        ),
        (
            rf"Actual usage is {_GIB} GiB for consumed memory \(weights \+ non-torch\), {_GIB} GiB for peak activation",
            max,
            ("consumed_gib", "activation_gib"),
        ),
        (
            rf"Actual usage is \d[\d.]* GiB for weight, {_GIB} GiB for peak activation",
            max,
            ("activation_gib",),
        ),
        (rf"torch\.compile (?:takes|took) {_SECONDS} s in total", max, ("compile_s",)),
        (rf"torch\.compile and initial profiling/warmup run together took {_SECONDS} s in total", max, ("compile_s",)),
    )
)
"""Patterns of one line, how to merge the figures of several ranks, and the names of their groups."""
