"""The header that keeps the requests of a conversation on one replica, whose KV cache has its beginning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

HEADER = "X-Session-ID"
"""HAProxy on the pod chooses the replica by it (`setup/templates/haproxy.cfg`)."""

MOST = 64 * 1024
"""Characters that count of what a conversation begins with; it may have pictures."""


def session_of(body: Mapping[str, Any]) -> str:
    """Return an id that all requests of a conversation have, and few others.

    It is a hash of the system prompt and the messages up to the user's first one, which later requests repeat.
    """
    if isinstance(key := body.get("prompt_cache_key"), str) and key:
        return _hash(key)
    parts = [body.get(name) for name in ("system", "instructions", "prompt")]
    turns = body.get("messages", body.get("input"))
    if not isinstance(turns, list):
        return _hash([*parts, turns])
    first = next(
        (place for place, turn in enumerate(turns) if isinstance(turn, dict) and turn.get("role") == "user"), 0
    )
    return _hash([*parts, turns[: first + 1]])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value)[:MOST].encode()).hexdigest()[:32]
