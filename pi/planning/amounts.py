"""Amounts as users type them: a context in tokens, a share of memory."""

from __future__ import annotations

import re

from pi.errors import InputError

MAX_CONTEXT = 100_000_000

FEWEST_TOKENS = 256
"""A context below it is taken for a slip of the keyboard."""


def parse_context(text: str) -> int:
    """Tokens: "32k" and "32K" are 32768, "1M" is 1048576, "40960" itself. Raises InputError."""
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,3})?)\s*([kKmM]?)\s*", text, re.ASCII)
    tokens = float(found[1]) * {"": 1, "k": 1024, "m": 1024**2}[found[2].lower()] if found else 0
    if not found or tokens != int(tokens) or not 1 <= tokens <= MAX_CONTEXT:
        raise InputError("context-invalid", f"--context {text!r} is no number of tokens", "say 32k, 128k or 40960")
    if tokens < FEWEST_TOKENS:
        raise InputError(
            "context-too-short",
            f"--context {text!r} is {tokens:.0f} tokens, too few for an answer",
            "32k is 32768 tokens",
        )
    return int(tokens)


def parse_memory(text: str) -> float:
    """A share of each GPU's memory: "50%", "50" and "0.5" are 0.5. Raises InputError outside 1 to 95 %."""
    found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,4})?|\.\d{1,4})\s*(%?)\s*", text, re.ASCII)
    number = float(found[1]) if found else -1.0
    share = number / 100 if found and (found[2] or number > 1) else number
    if not 0.01 <= share <= 0.95:
        raise InputError("memory-invalid", f"--memory {text!r} is no share between 1% and 95%", "say 50%, 0.5 or 90%")
    return round(share, 4)
