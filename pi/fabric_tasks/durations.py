"""Read the value of `--timeout`."""

from __future__ import annotations

from pi.errors import InputError

LONGEST_TIMEOUT_S = 10**6


def timeout_s_of(text: str | None) -> int | None:
    """Return seconds, or None without a value. Raises InputError."""
    if text is not None and not (text.isdecimal() and text.isascii() and 0 < int(text) <= LONGEST_TIMEOUT_S):
        raise InputError(
            "timeout-invalid", f"invalid --timeout {text!r}", "use a number of seconds, such as --timeout 600"
        )
    return int(text) if text else None
