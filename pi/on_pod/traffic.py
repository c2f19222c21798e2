"""How much the installers of a setup have downloaded: what the pod received, against the sizes that uv announces."""

from __future__ import annotations

import collections
import re
import time
from typing import Deque, Optional, Tuple

from pi.on_pod import reading
from pi.on_pod.events import DownloadEvent

TABLE = "/proc/net/dev"

REPORT_S = 1.0

WINDOW_S = 10.0
"""How long the speed is averaged."""

LEAST_BYTES = 8 * 1024 * 1024
"""Less than this is talk with an index, not a download."""

ANNOUNCED = re.compile(r"Downloading \S+ \((\d+(?:\.\d+)?)\s?(KiB|MiB|GiB)\)")
"""uv's line for a large file, such as "Downloading torch (528.9MiB)"."""

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Traffic:
    """Counts the bytes that come during one step."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start to count for a new step."""
        now = time.monotonic()
        self._first, self._total = received(), 0
        self._looks: Deque[Tuple[float, int]] = collections.deque([(now, self._first)])

    def read(self, line: str) -> None:
        """Add the size that a line of uv announces."""
        found = ANNOUNCED.search(line)
        if found:
            self._total += int(float(found.group(1)) * UNITS[found.group(2)])

    def event(self) -> Optional[DownloadEvent]:
        """Return how far the download is, at most once a second, and only while bytes come."""
        now = time.monotonic()
        if now - self._looks[-1][0] < REPORT_S:
            return None
        count, before = received(), self._looks[-1][1]
        self._looks.append((now, count))
        while now - self._looks[0][0] > WINDOW_S:
            self._looks.popleft()
        done = count - self._first
        if done < LEAST_BYTES or count - before < LEAST_BYTES // 100:
            return None
        began, base = self._looks[0]
        speed = int((count - base) / max(0.001, now - began))
        total = self._total or None
        return {
            "event": "download",
            "bytes": min(done, self._total) if total else done,
            "bytes_per_s": speed,
            "total": total,
        }


def received() -> int:
    """Return the bytes that the pod has received, without those of its loopback (proc(5): /proc/net/dev)."""
    rows = re.findall(r"^\s*(\S+):\s*(\d+)", reading.text(TABLE), re.M)
    return sum(int(count) for name, count in rows if name != "lo")
