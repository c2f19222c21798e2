"""A deployment's log: its tail, and a follower that survives rotation as `tail -F` does."""

from __future__ import annotations

import codecs
import os
import re
import time
from typing import IO, Optional, Tuple

from pi.on_pod import log_filter, reading, records, redact, unrecorded
from pi.on_pod.record_shapes import Record
from pi.on_pod.shapes import LogsAnswer, LogsRequest
from pi.on_pod.wire import PodError, Wire

CHUNK_BYTES = 128 * 1024

TAIL_BYTES = 32 << 20
"""Bytes at the end of a log in which pi looks for the last lines; at least 1 KiB for each line."""

COUNTED_BYTES = 1 << 30
"""pi does not count the lines of a longer log: reading it takes seconds."""

LINE_CHARACTERS = 16 * 1024
"""Characters that pi shows of one line."""

CUT = " … [the rest of this line is left out]"

POLL_S = 0.05

EXIT_PATIENCE_S = 2
"""Seconds that the launcher may take to write its server's exit code."""


def tail(name: str, size: int) -> str:
    """Return the last `size` bytes of a deployment's log as text; empty if there is no log."""
    return tail_of(records.log_path(name), size)


def tail_of(path: str, size: int) -> str:
    """Return the last `size` bytes of a file as text, from the start of a line: half a secret cannot be hidden."""
    try:
        with os.fdopen(reading.opened(path), "rb") as file:
            return _end_of(file, os.fstat(file.fileno()).st_size, size)
    except (OSError, reading.ReadError):
        return ""


def _end_of(file: IO[bytes], total: int, size: int) -> str:
    start = max(0, total - size)
    file.seek(start)
    text = file.read(total - start).decode("utf-8", "replace")
    return re.split("[\r\n]", text, maxsplit=1)[-1] if start else text


def numbered_tail(path: str, size: int) -> Tuple[str, Optional[int]]:
    """Return the end of a file as `tail_of` does, and how many lines stand before it; None if pi did not count them."""
    try:
        with os.fdopen(reading.opened(path), "rb") as file:
            total = os.fstat(file.fileno()).st_size
            text = _end_of(file, total, size)
            if total > COUNTED_BYTES:
                return text, None
            file.seek(0)
            parts = iter(lambda: file.read(min(1 << 20, total - file.tell())), b"")
            return text, sum(part.count(b"\n") for part in parts) - text.count("\n")
    except (OSError, reading.ReadError):
        return "", None


class Follower:
    """Reads a growing file as text with whole characters and without secrets.

    Begins with the last `lines` lines, with those of the last `since_s` seconds, or with all. Continues at the start
    of the file if it was cut or replaced. Waits for a file that does not exist yet.
    """

    def __init__(
        self, path: str, secrets: redact.Secrets, lines: Optional[int] = None, since_s: Optional[int] = None
    ) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._redactor = redact.Redactor(secrets)
        self._file: Optional[IO[bytes]] = None
        self._open()
        start = 0
        if self._file and lines is not None:
            start = _beginning(self._file, lines)
        if self._file and since_s is not None:
            start = log_filter.since(self._file, since_s, start)
        if self._file:
            self._file.seek(start)

    def read(self) -> str:
        chunk = self._file.read(CHUNK_BYTES) if self._file else b""
        if not chunk and self._is_replaced():
            self._open()
            chunk = self._file.read(CHUNK_BYTES) if self._file else b""
        return self._redactor.feed(self._decoder.decode(chunk))

    def rest(self) -> str:
        """Return text that was held back as the possible start of a secret. Call it at the end."""
        return self._redactor.flush()

    def _open(self) -> None:
        try:
            fresh = os.fdopen(reading.opened(self._path), "rb", buffering=0)
        except reading.ReadError:
            return
        if self._file:
            self._file.close()
        self._file = fresh

    def _is_replaced(self) -> bool:
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        if self._file is None:
            return True
        own = os.fstat(self._file.fileno())
        return (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino) or own.st_size < self._file.tell()


def _beginning(file: IO[bytes], lines: int) -> int:
    """Return where the last lines of a file begin, at most TAIL_BYTES before its end."""
    at = size = os.fstat(file.fileno()).st_size
    least = max(0, size - max(TAIL_BYTES, lines * 1024))
    if not lines or not size:
        return size
    file.seek(size - 1)
    missing = lines + (file.read(1) == b"\n")  # newlines to pass, with the one that ends the file
    while at > least:
        step = min(CHUNK_BYTES, at - least)
        at -= step
        file.seek(at)
        block = file.read(step)
        newlines = block.count(b"\n")
        if newlines >= missing:
            ends = [newline.start() for newline in re.finditer(b"\n", block)]
            return at + ends[-missing] + 1
        missing -= newlines
    return at


class Shortener:
    """Cuts lines of a stream that are too long to show, and marks the cut."""

    def __init__(self) -> None:
        self._room = LINE_CHARACTERS

    def feed(self, text: str) -> str:
        return text if self._fits(text) else "".join(map(self._part, re.split("([\r\n])", text)))

    def _fits(self, text: str) -> bool:
        """Return whether no line is too long, and if so, count the characters of the last one."""
        start, room = 0, self._room
        while len(text) - start > room:
            end = _line_end(text, start, start + room + 1)
            if end < 0:
                return False
            start, room = end + 1, LINE_CHARACTERS
        end = _line_end(text, start, len(text))
        self._room = room - (len(text) - start) if end < 0 else LINE_CHARACTERS - (len(text) - end - 1)
        return True

    def _part(self, text: str) -> str:
        if text in ("\r", "\n"):
            self._room = LINE_CHARACTERS
            return text
        room, self._room = self._room, max(-1, self._room - len(text))
        if self._room >= 0 or room < 0:
            return text if self._room >= 0 else ""
        return text[:room] + CUT


def _line_end(text: str, start: int, end: int) -> int:
    """Return where the last line ends between two places, or -1."""
    return max(text.rfind("\n", start, end), text.rfind("\r", start, end))


def follow(wire: Wire, request: LogsRequest) -> LogsAnswer:
    """Send a log from its last `lines` on, until its server ends or, without `follow`, to its end.

    Returns how the server ended. Raises PodError if there is no log.
    """
    name, follows = request["name"], request["follow"]
    record = records.load(name) if request["which"] == "log" else None
    path = _path_of(request)
    if not os.path.exists(path):
        if record is None:
            raise PodError("no_log", _MISSING[request["which"]] % name)
        wire.progress("%s has no log yet" % name)
    elif record is None and follows and request["which"] == "log" and unrecorded.find(name):
        wire.progress("%s has no valid record on the pod; this is its log up to now" % name)
    reaches_back = request["grep"] is not None or request["since_s"] is not None
    follower = Follower(path, wire.secrets, MOST_LINES if reaches_back else request["lines"], request["since_s"])
    matching = None if request["grep"] is None else log_filter.Matching(request["grep"], request["lines"])
    shortener = Shortener()
    is_over = False

    def send(text: str) -> None:
        if text:
            wire.log(shortener.feed(text))

    while not wire.lost.is_set():
        wire.check_cancelled()
        text = follower.read()
        if text:
            send(matching.feed(text) if matching else text)
            is_over = False
            continue
        if is_over:
            rest = follower.rest()
            send(matching.feed(rest) + matching.rest() if matching else rest)
            return _end(name) if follows and record else {"how": None, "exit": None}
        record = record and (records.load(name) or record)
        is_over = not follows or record is None or not _is_at_work(record)
        if not is_over:
            send(matching.caught_up() if matching else "")
            time.sleep(POLL_S)
    return {"how": None, "exit": None}


MOST_LINES = 1 << 18
"""Lines at the end of a log in which pi looks for a time or a text."""

_MISSING = {
    "log": "%s has no log",
    "previous": "%s has no log of an earlier start",
    "setup": "this pod has no log of a setup%.0s",
}


def _path_of(request: LogsRequest) -> str:
    if request["which"] == "setup":
        return SETUP_LOG
    return records.log_path(request["name"]) + (".1" if request["which"] == "previous" else "")


SETUP_LOG = os.path.join(records.HOME, "setup", "setup.log")


def _is_at_work(record: Record) -> bool:
    return records.is_running(record) or records.is_starting(record) or records.has_launcher(record)


def _end(name: str) -> LogsAnswer:
    """Return how the followed server ended."""
    deadline = time.monotonic() + EXIT_PATIENCE_S
    while records.exit_code(name) is None and records.load(name) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    record = records.load(name)
    is_crash = record is not None and not record.get("stopping")
    return {"how": "exited" if is_crash else "stopped", "exit": records.exit_code(name)}
