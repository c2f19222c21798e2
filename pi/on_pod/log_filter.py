"""Which lines of a log `pi logs` sends: those since a time, and those that contain a text."""

from __future__ import annotations

import io
import re
import time
from collections import deque
from typing import IO, Deque, Optional, cast

STAMP = re.compile(rb"(?:^|[ )])(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) ")
"""vLLM's time of a line, without the year, in the pod's local time."""

STAMP_BYTES = 200
"""Of a line's beginning, in which its time stands."""

DAY_S = 86400


def since(file: IO[bytes], seconds: int, start: int, now: Optional[float] = None) -> int:
    """Return where the first line begins that vLLM wrote in the last `seconds`; the end if there is none.

    Looks from `start` on. Lines without a time belong to the one before them.
    """
    moment = time.time() if now is None else now
    file.seek(start)
    place, lines = start, io.BufferedReader(cast(io.RawIOBase, file))
    try:
        for line in lines:
            written = _written(line, moment)
            if written is not None and written >= moment - seconds:
                break
            place += len(line)
    finally:
        lines.detach()
    return place


def _written(line: bytes, now: float) -> Optional[float]:
    """Return when a line was written, in seconds since 1970, or None if it does not say so."""
    found = STAMP.search(line[:STAMP_BYTES])
    if not found:
        return None
    month, day, hour, minute, second = map(int, found.groups())
    year = time.localtime(now).tm_year
    try:
        when = time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
        return when if when <= now + DAY_S else time.mktime((year - 1, month, day, hour, minute, second, 0, 0, -1))
    except (ValueError, OverflowError):
        return None


class Matching:
    """Passes the lines of a stream that contain a text, in any case; at first the last `most` of what is there."""

    def __init__(self, text: str, most: int) -> None:
        self._text = text.lower()
        self._pending = ""
        self._first: Optional[Deque[str]] = deque(maxlen=most)

    def feed(self, text: str) -> str:
        """Return the whole lines that match; before `caught_up`, keep them."""
        *lines, self._pending = (self._pending + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        found = [line + "\n" for line in lines if self._text in line.lower()]
        if self._first is None:
            return "".join(found)
        self._first.extend(found)
        return ""

    def caught_up(self) -> str:
        """Return the last matches of what was there when the reading began."""
        found, self._first = "".join(self._first or ()), None
        return found

    def rest(self) -> str:
        """Return a last line without its end, if it matches."""
        line, self._pending = self._pending, ""
        return self.caught_up() + (line if line and self._text in line.lower() else "")
