"""Server-sent events: decode JSON objects from a stream of bytes, split anywhere."""

from __future__ import annotations

import json
from typing import Any

from pi.errors import RemoteError
from pi.text import one_line

EVENT_BYTES = 8 * 1024 * 1024
"""Longest event; the last event of vLLM's Responses API contains the whole answer."""

BOM = b"\xef\xbb\xbf"
"""A byte order mark, which may begin a stream."""

DONE: dict[str, Any] = {"done": True}
"""Represents the closing `[DONE]` of Chat Completions."""


class EventDecoder:
    """Decodes bytes into the objects of their `data:` lines; skips comments and event names."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[dict[str, Any]]:
        """Return the objects that `piece` completes. Raises RemoteError if one is invalid or too long."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        objects = []
        for line in lines:
            line = line.rstrip(b"\r").removeprefix(BOM)
            if line.startswith(b"data:"):
                self._data.append(line[5:].lstrip(b" "))
            elif not line and self._data:
                data = b"\n".join(self._data)
                self._data.clear()
                if data.strip():  # some proxies keep a connection alive with empty events
                    objects.append(parsed(data))
        if len(self._rest) + sum(map(len, self._data)) > EVENT_BYTES:
            raise RemoteError("endpoint-event-too-long", "the endpoint sent an event longer than 8 MiB")
        return objects


def parsed(data: bytes) -> dict[str, Any]:
    """Return the JSON object of one event. Raises RemoteError if it is not one."""
    if data.strip() == b"[DONE]":
        return DONE
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        shown = one_line(data[:400].decode("utf-8", "replace"), 100)
        raise RemoteError("endpoint-event-invalid", f"the endpoint sent an event that is not a JSON object: {shown}")
    return value
