"""Limits of a tool call: its time and the size of its result."""

from __future__ import annotations

import threading
import time

RESULT_BYTES = 64 * 1024
"""Largest result, in bytes of UTF-8; a longer one is cut, with a note."""

TOOL_SECONDS = 10.0
"""Longest time of one call."""


class ToolError(Exception):
    """A call failed; the text tells the model why and what to change."""


class Deadline:
    """The end of one call, when its time is up or the user stops it."""

    def __init__(self, cancelled: threading.Event, seconds: float = TOOL_SECONDS) -> None:
        self.cancelled = cancelled
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining_seconds(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raise ToolError if the call must stop."""
        if self.cancelled.is_set():
            raise ToolError("stopped by the user")
        if time.monotonic() > self._end:
            raise ToolError(f"took longer than {self.seconds:g} seconds, so it was stopped; ask for less")


def cut(text: str, note: str, limit: int = RESULT_BYTES) -> str:
    """Return `text` of at most `limit` bytes: cut between characters if longer, then the note."""
    if len(text) * 4 <= limit:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    return f"{encoded[:limit].decode('utf-8', 'ignore')}\n[{note}]"
