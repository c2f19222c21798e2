"""Server-sent events: the JSON objects in a stream of bytes, wherever it is cut."""

from __future__ import annotations

import json
from typing import Any

from pi.errors import RemoteError
from pi.text import one_line

EVENT_BYTES = 8 * 1024 * 1024
"""The longest event that is read; vLLM's are a few hundred bytes, its last Responses event holds the answer."""

DONE: dict[str, Any] = {"done": True}
"""Stands for the closing `[DONE]` of Chat Completions."""


class EventDecoder:
    """Turns bytes into the objects of their `data:` lines. Comments and event names are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[dict[str, Any]]:
        """The objects that `piece` completes.

        Raises:
            RemoteError: for what is not JSON, or is too long.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        found = []
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].lstrip(b" "))
            elif not line and self._data:
                found.append(parsed(b"\n".join(self._data)))
                self._data.clear()
        if len(self._rest) + sum(map(len, self._data)) > EVENT_BYTES:
            raise RemoteError(
                "endpoint-event-too-long",
                "the endpoint sent an event of more than 8 MiB, and was not listened to any longer",
            )
        return found


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object in the data of one event.

    Raises:
        RemoteError: when it is none.
    """
    if data.strip() == b"[DONE]":
        return DONE
    try:
        found = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        shown = one_line(data[:400].decode("utf-8", "replace"), 100)
        raise RemoteError("endpoint-event-invalid", f"the endpoint sent something that is no JSON object: {shown}")
    return found
