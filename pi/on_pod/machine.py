"""The identity of the pod's machine, which stays the same after a reboot and at another address."""

from __future__ import annotations

import os
import re

from pi.on_pod import reading, records, writing

try:
    from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from hashlib import sha256

FILE = os.path.join(records.HOME, "machine")
"""A random id that setup writes once."""

SYSTEM_FILE = "/etc/machine-id"


def identity() -> str:
    """Return one word for the machine, or "" if no setup gave it an id.

    Copies of one image share /etc/machine-id, and machines with a common home share ~/.pi/machine; the word depends
    on both. It is a hash, because /etc/machine-id must not leave its machine (machine-id(5)).
    """
    own = _given()
    return sha256((own + " " + _read(SYSTEM_FILE)).encode()).hexdigest()[:32] if own else ""


def give() -> None:
    """Give the machine an id if it has none."""
    if not _given():
        os.makedirs(records.HOME, mode=0o700, exist_ok=True)
        writing.replace(FILE, os.urandom(16).hex() + "\n")


def _given() -> str:
    text = _read(FILE)
    return text if re.fullmatch("[0-9a-f]{32}", text) else ""


def _read(path: str) -> str:
    return reading.beginning(path, 100).strip()
