"""What a pod sends back, as typed values: the marked lines inside a stream that may hold other noise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pi.errors import RemoteError

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one event; the longest real one is a log tail of 256 KiB, escaped."""

MAX_NOISE = 16 * 1024 * 1024
"""Bytes of noise in one call; a login banner has a few hundred."""


@dataclass(frozen=True)
class Event:
    """One event of a pod: `kind` says what happened, `data` holds its plain JSON values."""

    kind: str
    data: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.data[key]


class Reader:
    """Turns the bytes of a stream into events; lines without the call's mark are noise and are dropped.

    Raises RemoteError for what no honest pod sends.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode() + b" "
        self._pending = bytearray()
        self.noise = b""
        """The last bytes of noise, for the message when no event ever comes (a login banner, an error)."""
        self._noise_left = MAX_NOISE

    def feed(self, chunk: bytes) -> Iterator[Event]:
        self._pending += chunk
        while (end := self._pending.find(b"\n")) >= 0:
            line = bytes(self._pending[:end])
            del self._pending[: end + 1]
            if line.startswith(self._mark):
                yield _event(line[len(self._mark) :])
            elif line.strip():
                self.noise = (self.noise + line[-2000:] + b"\n")[-2000:]
                self._noise_left -= len(line)
        if len(self._pending) > MAX_LINE or self._noise_left < 0:
            raise RemoteError("the pod sends more than 16 MiB that is no answer", "look at what its login shell prints")


def _event(line: bytes) -> Event:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("event"), str):
        raise RemoteError("the pod sent an answer that cannot be read")
    return Event(data.pop("event"), data)
