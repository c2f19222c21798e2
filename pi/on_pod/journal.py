"""The journal of a call that survives its connection: a private file under ~/.pi/calls that `follow` reads."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Mapping, Optional

from pi.on_pod import process, reading, writing

CALLS = os.path.expanduser("~/.pi/calls")

KEPT_S = 24 * 3600


def path(call: str) -> str:
    return os.path.join(CALLS, call)


def answer_path(call: str) -> str:
    return path(call) + ".answer"


def pass_on(call: str, message: Mapping[str, object]) -> None:
    """Give the process of a followed call pi's answer to its question. On a full disk, it waits in vain."""
    with contextlib.suppress(OSError):
        writing.replace(answer_path(call), json.dumps(message))


class Journal:
    """Writes the events of one call, a line each, after a line that identifies its process."""

    def __init__(self, call: str) -> None:
        os.makedirs(CALLS, mode=0o700, exist_ok=True)
        _prune()
        self._answer = answer_path(call)
        self._file = open(path(call), "ab", buffering=0)  # noqa: SIM115 - open as long as the call works
        pid = os.getpid()
        fields = process.stat(pid)
        self.add({"pid": pid, "started": fields[2] if fields else 0, "boot_id": process.boot_id()})

    def take_answer(self) -> Optional[dict[str, Any]]:
        """Return the answer that a following call passed on, once; None if there is none."""
        try:
            message: dict[str, Any] = reading.document(self._answer)
            os.unlink(self._answer)
        except (OSError, ValueError):
            return None
        return message

    def add(self, event: Mapping[str, object]) -> None:
        """Write an event. A full disk does not stop the work."""
        with contextlib.suppress(OSError):
            self._file.write(json.dumps(event).encode() + b"\n")


def _prune() -> None:
    """Delete journals older than a day."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(CALLS):
            if time.time() - entry.stat().st_mtime > KEPT_S:
                os.unlink(entry.path)
