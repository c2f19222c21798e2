"""The door as a process of its own, and what it says about itself."""

from __future__ import annotations

import http.client
import json
import os
import time
from typing import TYPE_CHECKING, Any, cast

from pi.door import kept
from pi.door.kept import Door
from pi.errors import NotReadyError, RemoteError
from pi.steps import own_process

if TYPE_CHECKING:
    from pi.steps.json_shapes import DoorJson, DoorReport

OPEN_S = 30

ANSWER_S = 5

POLL_S = 0.05

STATUS = "/door"
"""The route by which the door says what its models do."""


def start(words: list[str]) -> Door:
    """Open the door with these words of `pi` in a process of its own.

    Raises BusyError if it is open, RemoteError with its last words if it does not open.
    """
    if kept.opened():
        raise kept.already_open()
    output = kept.new_log()
    given = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    try:
        process = own_process.start(words, output, given)
    finally:
        os.close(output)
    deadline = time.monotonic() + OPEN_S
    while time.monotonic() < deadline:
        door = kept.opened()
        if door and door.pid == process.pid and asked(door):
            return door
        if process.poll() is not None:
            raise kept.last_error(process.returncode)
        time.sleep(POLL_S)
    process.terminate()
    raise NotReadyError("door-late", f"the door does not answer after {OPEN_S} s", f"its log: {kept.log_path()}")


def asked(door: Door) -> dict[str, Any] | None:
    """Return what an open door says of its models, or its error; None if it does not answer."""
    connection = http.client.HTTPConnection(door.address, door.port, timeout=ANSWER_S)
    try:
        connection.request("GET", STATUS, headers={"Authorization": f"Bearer {kept.key()}"})
        document = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return document if isinstance(document, dict) else None


def requests_of(pod: str, name: str) -> int:
    """Return how many requests to a model run through the door; 0 if it is closed."""
    door = kept.opened()
    found = report(door)["models"] if door else []
    return sum(each["requests"] for each in found if each["pod"] == pod and each["id"] in (name, f"{pod}/{name}"))


def report(door: Door) -> DoorReport:
    """Return what an open door says of itself. Raises RemoteError if it does not."""
    found = asked(door)
    if found is None:
        raise RemoteError(
            "door-silent", f"the door at {door.url} (pid {door.pid}) does not answer", "open it again: pi door stop"
        )
    if "models" not in found:
        raise RemoteError("door-error", f"the door at {door.url} reports: {found['error']['message']}")
    return cast("DoorReport", found)


def as_json(door: Door | None) -> DoorJson:
    said: DoorReport = report(door) if door else {"models": [], "problem": ""}
    return {
        "url": door.url if door else None,
        "pid": door.pid if door else None,
        "key_file": str(kept.key_path()),
        "models": said["models"],
        "problem": said["problem"],
    }
