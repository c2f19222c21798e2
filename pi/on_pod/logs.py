"""A deployment's log: its tail, and a follower that survives rotation as `tail -F` does."""

from __future__ import annotations

import codecs
import os
import re
import time
from typing import IO, Optional

from pi.on_pod import reading, records, redact, unrecorded
from pi.on_pod.record_shapes import Record
from pi.on_pod.shapes import LogsAnswer, LogsRequest
from pi.on_pod.wire import PodError, Wire

CHUNK_BYTES = 64 * 1024

TAIL_BYTES = 32 << 20
"""Bytes at the end of a log in which pi looks for the last lines; at least 1 KiB for each line."""

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
            start = max(0, os.fstat(file.fileno()).st_size - size)
            file.seek(start)
            text = file.read(size).decode("utf-8", "replace")
    except (OSError, reading.ReadError):
        return ""
    return re.split("[\r\n]", text, maxsplit=1)[-1] if start else text


class Follower:
    """Reads a growing file as text with whole characters and without secrets.

    Begins with the last `lines` lines, or with all. Continues at the start of the file if it was cut or replaced.
    Waits for a file that does not exist yet.
    """

    def __init__(self, path: str, secrets: redact.Secrets, lines: Optional[int] = None) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._redactor = redact.Redactor(secrets)
        self._file: Optional[IO[bytes]] = None
        self._open()
        if self._file and lines is not None:
            self._file.seek(_beginning(self._file, lines))

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
        if block.count(b"\n") >= missing:
            ends = [newline.start() for newline in re.finditer(b"\n", block)]
            return at + ends[-missing] + 1
        missing -= block.count(b"\n")
    return at


class Shortener:
    """Cuts lines of a stream that are too long to show, and marks the cut."""

    def __init__(self) -> None:
        self._room = LINE_CHARACTERS

    def feed(self, text: str) -> str:
        return "".join(map(self._part, re.split("([\r\n])", text)))

    def _part(self, text: str) -> str:
        if text in ("\r", "\n"):
            self._room = LINE_CHARACTERS
            return text
        room, self._room = self._room, max(-1, self._room - len(text))
        if self._room >= 0 or room < 0:
            return text if self._room >= 0 else ""
        return text[:room] + CUT


def follow(wire: Wire, request: LogsRequest) -> LogsAnswer:
    """Send a log from its last `lines` on, until its server ends or, without `follow`, to its end.

    Returns how the server ended. Raises PodError if there is no log.
    """
    name, follows = request["name"], request["follow"]
    record = records.load(name)
    path = records.log_path(name)
    if not os.path.exists(path):
        if record is None:
            raise PodError("no_log", "%s has no log" % name)
        wire.progress("%s has no log yet" % name)
    elif record is None and follows and unrecorded.find(name):
        wire.progress("%s has no valid record on the pod; this is its log up to now" % name)
    follower, shortener = Follower(path, wire.secrets, request["lines"]), Shortener()
    while not wire.lost.is_set():
        is_over = not follows or record is None or not _is_at_work(record)
        text = follower.read()
        if text:
            wire.emit({"event": "log", "text": shortener.feed(text)})
        elif is_over:
            wire.emit({"event": "log", "text": shortener.feed(follower.rest())})
            return _end(name) if follows and record else {"how": None, "exit": None}
        else:
            time.sleep(POLL_S)
        wire.check_cancelled()
        record = records.load(name) or record
    return {"how": None, "exit": None}


def _is_at_work(record: Record) -> bool:
    return records.is_running(record) or records.is_starting(record)


def _end(name: str) -> LogsAnswer:
    """Return how the followed server ended."""
    deadline = time.monotonic() + EXIT_PATIENCE_S
    while records.exit_code(name) is None and records.load(name) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    record = records.load(name)
    is_crash = record is not None and not record.get("stopping")
    return {"how": "exited" if is_crash else "stopped", "exit": records.exit_code(name)}
