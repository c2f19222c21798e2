"""What a call that outlives its connection has said: one private file under ~/.pi/calls, read by `follow`."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

from pi.on_pod import process

CALLS = os.path.expanduser("~/.pi/calls")

KEPT_S = 24 * 3600


def path(call: str) -> str:
    return os.path.join(CALLS, call)


class Journal:
    """The events of one call, a line each, after a line that names the process which writes them."""

    def __init__(self, call: str) -> None:
        os.makedirs(CALLS, mode=0o700, exist_ok=True)
        _prune()
        self._file = open(path(call), "ab", buffering=0)  # noqa: SIM115 - open as long as the call works
        pid = os.getpid()
        found = process.stat(pid)
        self.add({"pid": pid, "started": found[2] if found else 0, "boot_id": process.boot_id()})

    def add(self, event: dict[str, Any]) -> None:
        """Write an event down; a full disk costs the journal, not the work."""
        with contextlib.suppress(OSError):
            self._file.write(json.dumps(event).encode() + b"\n")


def _prune() -> None:
    """Drop the journals of calls that ended long ago."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(CALLS):
            if time.time() - entry.stat().st_mtime > KEPT_S:
                os.unlink(entry.path)
