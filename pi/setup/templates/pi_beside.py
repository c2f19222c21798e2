"""What the programs beside a server share: `pi_watch.py`, `pi_idle.py` and `pi_link.py`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent


def fields_of(pid: int) -> list[str]:
    """Return state, parent, group, session and the rest of /proc/PID/stat; empty if it is gone (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def started_of(pid: int) -> str | None:
    """Return when a process started, in ticks, or None if it does not live."""
    fields = fields_of(pid)
    return fields[19] if fields and fields[0] not in "ZX" else None


def write(name: str, text: str) -> None:
    """Write a private file beside this one, whole or not at all; a full disk loses it."""
    with contextlib.suppress(OSError):
        fresh = HERE / (name + ".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(text)
        fresh.replace(HERE / name)
