"""What was changed, by whom, and how it went: one line each in a private file, on the pod and where pi runs."""

from __future__ import annotations

import fcntl
import functools
import os
import time
from typing import Any, Callable, Optional

from pi.on_pod.wire import Cancelled, PodError, Wire

PATH = os.path.expanduser("~/.pi/audit.log")

ROTATED_BYTES = 1 << 20

LONGEST = 200
"""Characters of one field."""


def append(path: str, who: str, command: str, name: str, result: str) -> None:
    """Add a line: UTC time, who, command, name and result, tabs between. What a field holds, it stays one line.

    The file is private; at 1 MiB it becomes PATH.1. Raises OSError.
    """
    fields = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), who, command, name, result]
    line = "\t".join(map(_field, fields)) + "\n"
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = _locked(path)
    try:
        if os.fstat(descriptor).st_size + len(line.encode()) > ROTATED_BYTES:
            os.replace(path, path + ".1")
            os.close(descriptor)
            descriptor = _locked(path)
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def last(path: str, count: int) -> list[str]:
    """The last lines, the newest last."""
    lines: list[str] = []
    for part in (path, path + ".1"):
        if len(lines) < count:
            try:
                with open(part, encoding="utf-8", errors="replace") as file:
                    lines = file.read().splitlines() + lines
            except OSError:
                continue
    return lines[-count:]


def _locked(path: str) -> int:
    """A descriptor of the file that has this name now, locked until it is closed."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # another put a new file in its place meanwhile


def _field(text: str) -> str:
    """Text as one field: no tab, line break, control or bidirectional character; "-" where there is nothing."""
    plain = "".join(character if character.isprintable() else " " for character in text[: 4 * LONGEST])
    return " ".join(plain.split())[:LONGEST] or "-"


def logged(command: str) -> Callable[[Callable[[Wire, Any], Any]], Callable[[Wire, Any], Any]]:
    """Have a verb leave a line. What it works on is its second parameter: a name, or a request with a `name`."""

    def decorate(verb: Callable[[Wire, Any], Any]) -> Callable[[Wire, Any], Any]:
        @functools.wraps(verb)
        def run(wire: Wire, subject: Any) -> Any:
            name = subject if isinstance(subject, str) else str(subject.get("name") or "")
            try:
                result = verb(wire, subject)
            except BaseException as error:
                _note(wire, command, name, error)
                raise
            _note(wire, command, name, None)
            return result

        return run

    return decorate


def _note(wire: Wire, command: str, name: str, error: Optional[BaseException]) -> None:
    """A line that cannot be written, on a full disk for one, ends nothing."""
    if error is None:
        result = "ok"
    elif isinstance(error, Cancelled):
        result = "cancelled"
    else:
        result = "failed: " + (error.kind if isinstance(error, PodError) else type(error).__name__)
    try:
        append(PATH, wire.who, command, wire.secrets.hide(name), result)
    except OSError:
        return


def recent(wire: Wire, request: dict[str, Any]) -> list[str]:
    """The last lines of this pod's log."""
    return last(PATH, request["lines"])
