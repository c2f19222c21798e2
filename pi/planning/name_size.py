"""What a model's name says of its size: parameters and number format."""

from __future__ import annotations

import re

from pi.planning.families import plain

BYTES = {"bf16": 2.05, "fp8": 1.1, "int8": 1.1, "nvfp4": 0.85, "int4": 0.75, "mxfp4": 0.62}
"""Bytes for each parameter that a name states: at the upper end of 140 measured checkpoints, because names round down
and 4-bit checkpoints keep some layers in 16 bit."""

FORMATS = (
    (r"nvfp4|fp4", "nvfp4"),
    (r"mxfp4|gpt-oss", "mxfp4"),
    (r"awq|gptq|int4|w4a16|w4a8|4bit|bnb|autoround|qat-q4", "int4"),
    (r"int8|w8a8|w8a16|8bit", "int8"),
    (r"fp8", "fp8"),
)
"""Number formats by words in a name; the first match wins."""

EIGHT_BITS = re.compile(r"(?:gptq-?int8|-8bit|int8|w8a)")

SHARED = 0.83
"""Parameters of a mixture "8x7b" as a part of 8 x 7: its experts share the attention (46.7 of 56, 141 of 176)."""


def precision_in(name: str) -> str:
    """Return the number format that a name states, "bf16" if it states none."""
    name = plain(name)
    if EIGHT_BITS.search(name) and not re.search(r"int4|4bit|w4a", name):
        return "int8"
    return next((precision for pattern, precision in FORMATS if re.search(pattern, name)), "bf16")


def billions_in(name: str) -> float | None:
    """Return the parameters that a name states, in billions; None for a name without them.

    "a3b" are active parameters, and a mixture "17b-16e" names those of one expert.
    """
    name = plain(name)
    if re.search(r"\d+b-\d+e\b", name):
        return None
    if mixture := re.search(r"\b(\d+)x(\d+(?:\.\d+)?)b\b", name):
        return int(mixture[1]) * float(mixture[2]) * SHARED
    sizes = re.findall(r"(?<![a-z0-9.])(\d{1,4}(?:\.\d+)?)([bm])(?![a-z0-9])", name)
    amounts = [float(number) / (1 if unit == "b" else 1000) for number, unit in sizes]
    return max(amounts, default=None)


def estimated_gb(name: str) -> float | None:
    """Return the weights of a model in 10^9 bytes by its name: parameters x bytes of the format."""
    billions = billions_in(name)
    return None if billions is None else round(billions * BYTES[precision_in(name)], 2)
