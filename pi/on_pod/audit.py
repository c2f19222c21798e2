"""The audit log: one line for each change in a private file, on the pod and where pi runs."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import stat
import time
from typing import Any, Callable, Optional

from pi.on_pod import reading
from pi.on_pod.shapes import AuditRequest
from pi.on_pod.wire import Cancelled, PodError, Wire

PATH = os.path.expanduser("~/.pi/audit.log")

ROTATED_BYTES = 1 << 20

PATIENCE_S = 2
"""Time for others that write; the log is not worth a longer wait."""

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

LONGEST = 200
"""Characters of a field; the rest is cut off."""


def append(path: str, who: str, command: str, name: str, result: str) -> None:
    """Add a line: UTC time, who, command, name and result, with tabs between them.

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
    """Return the last lines, the newest last."""
    lines: list[str] = []
    for part in (path, path + ".1"):
        if len(lines) < count:
            lines = reading.text(part).splitlines() + lines
    return lines[-count:]


def _locked(path: str) -> int:
    """Open and lock the file that has this name now. Closing the descriptor unlocks it. Raises OSError, also if the
    name has another kind of file, or if another process keeps it locked.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        descriptor = os.open(path, FLAGS, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a file")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except (BlockingIOError, FileNotFoundError):  # another process writes it, or replaced it meanwhile
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.01)


def _field(text: str) -> str:
    """Return text without tabs, line breaks, control and bidirectional characters; "-" if it is empty."""
    plain = "".join(character if character.isprintable() else " " for character in text[: 4 * LONGEST])
    return " ".join(plain.split())[:LONGEST] or "-"


def logged(command: str) -> Callable[[Callable[[Wire, Any], Any]], Callable[[Wire, Any], Any]]:
    """Decorate a verb so that it adds a line. Its second parameter is a name, or a request with a `name`."""

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
    """Add a line. A full disk does not fail the verb."""
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


def recent(wire: Wire, request: AuditRequest) -> list[str]:
    """Return the last lines of this pod's log."""
    return last(PATH, request["lines"])
