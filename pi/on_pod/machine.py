"""The pod's machine: its identity, the same after a reboot and at another address, and what its provider maps."""

from __future__ import annotations

import hashlib
import os
import re

from pi.on_pod import reading, records

FILE = os.path.join(records.HOME, "machine")
"""A random id that setup writes once."""

SYSTEM_FILE = "/etc/machine-id"


def identity() -> str:
    """Return one word for the machine, or "" if no setup gave it an id.

    Copies of one image share /etc/machine-id, and machines with a common home share ~/.pi/machine; the word depends
    on both. It is a hash, because /etc/machine-id must not leave its machine (machine-id(5)).
    """
    own = _given()
    return hashlib.sha256((own + " " + _read(SYSTEM_FILE)).encode()).hexdigest()[:32] if own else ""


def give() -> None:
    """Give the machine an id if it has none."""
    if not _given():
        os.makedirs(records.HOME, mode=0o700, exist_ok=True)
        with open(FILE + ".new", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(os.urandom(16).hex() + "\n")
        os.replace(FILE + ".new", FILE)


def public_addresses() -> dict[str, str]:
    """Return the variables of the first process in which a provider maps this pod's ports.

    RunPod: RUNPOD_POD_ID, RUNPOD_PUBLIC_IP, RUNPOD_TCP_PORT_<port>; Vast.ai: PUBLIC_IPADDR,
    VAST_TCP_PORT_<port> (the providers' documentation of their environment variables).
    """
    try:
        with open("/proc/1/environ", "rb") as file:
            first = dict(
                entry.decode("utf-8", "replace").partition("=")[::2] for entry in file.read().split(b"\0") if entry
            )
    except OSError:
        first = {}
    names = re.compile(r"RUNPOD_POD_ID|RUNPOD_PUBLIC_IP|PUBLIC_IPADDR|(RUNPOD|VAST)_TCP_PORT_\d+")
    return {key: value for key, value in {**first, **os.environ}.items() if names.fullmatch(key)}


def _given() -> str:
    text = _read(FILE)
    return text if re.fullmatch("[0-9a-f]{32}", text) else ""


def _read(path: str) -> str:
    return reading.beginning(path, 100).strip()
