"""How long a tool may take and how much it may say."""

from __future__ import annotations

import threading
import time

RESULT_BYTES = 64 * 1024
"""The ceiling of one result, in bytes of UTF-8; what is more is cut, with a note."""

TOOL_SECONDS = 10.0
"""How long one call may take."""


class ToolError(Exception):
    """A call failed; the text tells the model why, in words it can act on."""


class Deadline:
    """The end of one call: its time is up, or the user stopped it."""

    def __init__(self, cancelled: threading.Event, seconds: float = TOOL_SECONDS) -> None:
        self.cancelled = cancelled
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining_seconds(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Returns while the call may go on.

        Raises:
            ToolError: when it may not.
        """
        if self.cancelled.is_set():
            raise ToolError("stopped by the user")
        if time.monotonic() > self._end:
            raise ToolError(f"took longer than {self.seconds:g} seconds and was stopped; ask for less")


def cut(text: str, note: str, limit: int = RESULT_BYTES) -> str:
    """`text` if it fits into `limit` bytes; else its beginning, on whole characters, and the note on a line."""
    if len(text) * 4 <= limit:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    return f"{encoded[:limit].decode('utf-8', 'ignore')}\n[{note}]"
