"""A deployment's log: its tail, and following it as `tail -F` does."""

from __future__ import annotations

import codecs
import os
import re
import subprocess
import time
from typing import Any, Optional

from pi.pod import records, redact
from pi.pod.wire import PodError, Wire

CHUNK_BYTES = 64 * 1024


def tail(name: str, size: int) -> str:
    """The last `size` bytes of a deployment's log as text; empty when there is none."""
    return tail_of(records.log_path(name), size)


def tail_of(path: str, size: int) -> str:
    """The last `size` bytes of a file as text, from the beginning of a line: half a secret could not be hidden."""
    try:
        with open(path, "rb") as file:
            start = max(0, os.fstat(file.fileno()).st_size - size)
            file.seek(start)
            text = file.read(size).decode("utf-8", "replace")
    except OSError:
        return ""
    return re.split("[\r\n]", text, maxsplit=1)[-1] if start else text


class Follower:
    """Reads what a growing file gained since the last look, as text that breaks no character and shows no secret."""

    def __init__(self, path: str, secrets: redact.Secrets) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - open as long as the follower lives
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._redactor = redact.Redactor(secrets)

    def read(self) -> str:
        return self._redactor.feed(self._decoder.decode(self._file.read(CHUNK_BYTES)))


def follow(wire: Wire, request: dict[str, Any]) -> dict[str, Any]:
    """Send a log from its last `lines` on, until its server ends, pi is gone, or (`follow` false) its end."""
    name = request["name"]
    record = records.load(name)
    path = records.log_path(name)
    if not os.path.exists(path) and record is None:
        raise PodError("no_log", "there is no log of %s" % name)
    words = ["tail", "-n", str(request["lines"])] + (["-F"] if request["follow"] else []) + [path]
    reader = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert reader.stdout is not None
    os.set_blocking(reader.stdout.fileno(), False)
    decoder, redactor = codecs.getincrementaldecoder("utf-8")("replace"), redact.Redactor(wire.secrets)
    try:
        while True:
            ended = _ended(record) if request["follow"] else reader.poll() is not None
            if not _pass_on(wire, reader.stdout.fileno(), decoder, redactor) and ended:
                wire.emit("log", text=redactor.flush())
                return {"exit": records.exit_code(name)}
            wire.check_cancelled()
            if wire.lost.is_set():
                return {"exit": None}
    finally:
        reader.kill()
        reader.wait()


def _pass_on(wire: Wire, descriptor: int, decoder: codecs.IncrementalDecoder, redactor: redact.Redactor) -> bool:
    """Send what is there to read; whether there was any. Waits a moment when there was none."""
    try:
        chunk: Optional[bytes] = os.read(descriptor, CHUNK_BYTES)
    except BlockingIOError:
        chunk = None
    if not chunk:
        time.sleep(0.05)
        return False
    wire.emit("log", text=redactor.feed(decoder.decode(chunk)))
    return True


def _ended(record: Optional[dict[str, Any]]) -> bool:
    return record is None or not (records.is_running(record) or records.is_starting(record))
