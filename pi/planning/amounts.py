"""Parse the amounts that users type: a context in tokens, a share of memory."""

from __future__ import annotations

import re

from pi.errors import InputError

MAX_CONTEXT = 100_000_000

MIN_CONTEXT = 256
"""In tokens; a smaller context is a typing error."""


def card_gb(size_gb: float) -> str:
    """Return a size of 10^9 bytes in the GB that GPUs are sold by (2^30 bytes): 64 is "59.6"."""
    size = size_gb * 1e9 / 2**30
    return f"{size:.3g}" if size < 999.5 else f"{size:.0f}"


def parse_context(text: str) -> int:
    """Return tokens: "32k" and "32K" are 32768, "1M" is 1048576. Raises InputError."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,3})?)\s*([kKmM]?)\s*", text, re.ASCII)
    tokens = float(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2].lower()] if match else 0
    if not match or tokens != int(tokens) or not 1 <= tokens <= MAX_CONTEXT:
        raise InputError("context-invalid", f"invalid --context {text!r}", "use a number of tokens such as 32k")
    if tokens < MIN_CONTEXT:
        raise InputError("context-too-short", f"--context {text!r} is only {tokens:.0f} tokens", "32k is 32768 tokens")
    return int(tokens)


def parse_memory(text: str) -> float:
    """Return a share of each GPU's memory: "50%", "50" and "0.5" are 0.5.

    Raises InputError outside 1 to 95 %.
    """
    match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,4})?|\.\d{1,4})\s*(%?)\s*", text, re.ASCII)
    number = float(match[1]) if match else -1.0
    share = number / 100 if match and (match[2] or number > 1) else number
    if not 0.01 <= share <= 0.95:
        raise InputError("memory-invalid", f"invalid --memory {text!r}", "use a share from 1% to 95%, such as 50%")
    return round(share, 4)
