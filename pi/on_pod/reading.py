"""Read files that others may have made: regular files only, without waiting for one, of limited size and depth."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from typing import Any, Callable, List, TypeVar

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of the largest file that pi reads whole; the largest known index of weights has about 10 MB."""

DEEPEST = 40
"""Levels of nesting in a JSON file; a model's config.json has about five (`pi.calls.validation.DEEPEST` is more)."""

LONGEST_NUMBER = 100
"""Digits of a number in a JSON file. Python needs minutes for millions of digits."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full disk."""

Value = TypeVar("Value")


class ReadError(ValueError):
    """Why pi does not read a file, as a clause such as "it is a FIFO, not a file". `is_missing`: it does not exist."""

    def __init__(self, problem: str, is_missing: bool = False) -> None:
        super().__init__(problem)
        self.is_missing = is_missing


class NotJson(ReadError):
    """The file is text of another kind, or damaged JSON."""


def opened(path: str) -> int:
    """Return a descriptor of a regular file, open for reading. Raises ReadError.

    A FIFO, a device or a socket is neither opened nor waited for: the file is checked before and after.
    """
    try:
        _require_regular(os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise ReadError((error.strerror or "unknown error").lower(), is_missing) from None
    try:
        _require_regular(os.fstat(descriptor))
    except ReadError:
        os.close(descriptor)
        raise
    return descriptor


KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind(found: os.stat_result) -> str:
    """Return what a path is that is not a file, such as "a FIFO"."""
    return KINDS.get(stat.S_IFMT(found.st_mode), "something else")


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ReadError("it is %s, not a file" % kind(found))


def data(path: str, limit: int = MAX_BYTES) -> bytes:
    """Return the bytes of a file that has at most `limit` of them. Raises ReadError."""
    content = _beginning(path, limit + 1, limit)
    if len(content) > limit:
        raise _too_large(limit)
    return content


def text(path: str, limit: int = MAX_BYTES) -> str:
    """Return the text of a file, or "" if pi does not read it."""
    try:
        return data(path, limit).decode("utf-8", "replace")
    except ReadError:
        return ""


def beginning(path: str, size: int) -> str:
    """Return the first `size` bytes of a file as text, or "" if pi does not read it."""
    try:
        return _beginning(path, size).decode("utf-8", "replace")
    except ReadError:
        return ""


def _beginning(path: str, size: int, limit: float = float("inf")) -> bytes:
    """Return the first `size` bytes of a file. Raises ReadError, also if the file has more than `limit` bytes."""
    parts: List[bytes] = []
    with os.fdopen(opened(path), "rb", buffering=0) as file:
        try:
            if os.fstat(file.fileno()).st_size > limit:
                raise _too_large(int(limit))
            while size > 0:
                part = file.read(min(size, 1 << 20))
                if not part:
                    break
                parts.append(part)
                size -= len(part)
        except OSError as error:
            raise ReadError((error.strerror or "unknown error").lower()) from None
    return b"".join(parts)


def _too_large(limit: int) -> ReadError:
    return ReadError("it has more than %s" % ("%d MiB" % (limit >> 20) if limit >= 1 << 20 else "%d bytes" % limit))


def document(path: str, limit: int = MAX_BYTES) -> Any:
    """Return the value in a JSON file. Raises ReadError."""
    return parsed(data(path, limit))


def parsed(content: bytes) -> Any:
    """Return the value of a JSON text that others made. Raises ReadError."""
    try:
        value = json.loads(content.decode("utf-8", "replace"), parse_int=_int)
    except RecursionError:
        raise ReadError("its JSON is nested too deeply") from None
    except ValueError:
        raise NotJson("it is not valid JSON" if content.strip() else "it is empty") from None
    if is_deep(value):
        raise ReadError("its JSON is nested too deeply")
    return value


def _int(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError("too many digits")
    return int(digits)


def is_deep(value: Any) -> bool:
    """Return whether a JSON value has more than DEEPEST levels."""
    level = [value]
    for _ in range(DEEPEST):
        level = [part for each in level for part in _parts(each)]
    return bool(level)


def _parts(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def within(patience_s: float, read: Callable[[], Value]) -> Value:
    """Return what `read` returns. Raises TimeoutError if that takes longer than `patience_s`.

    A read from a mount that died waits in the kernel, where nothing ends it. So a thread waits there, and dies with
    the process.
    """
    results: List[Value] = []
    errors: List[BaseException] = []

    def work() -> None:
        try:
            results.append(read())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(patience_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
