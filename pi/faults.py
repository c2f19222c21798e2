"""Errors that pi did not foresee: a line for the user, and with PI_DEBUG=1 the traceback in a private file."""

from __future__ import annotations

import errno
import os
import time
import traceback
from pathlib import Path

from pi import config
from pi.redaction import redacted


def told(error: BaseException) -> str:
    """What the user reads of an unexpected error. The traceback is never part of it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"pi: cannot write: {error.strerror}"
    words = f"pi: unexpected {type(error).__name__}: {error}"
    if not os.environ.get("PI_DEBUG"):
        return f"{words}\n  this is a fault of pi; PI_DEBUG=1 writes where to a file, please report it"
    try:
        return f"{words}\n  this is a fault of pi; {_written(error)} says where, please report it"
    except OSError as refusal:
        return f"{words}\n  this is a fault of pi; where it is could not be written down: {refusal.strerror}"


def _written(error: BaseException) -> Path:
    """The new file with the traceback, secrets taken out."""
    folder = config.config_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"debug-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.txt"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(redacted("".join(traceback.format_exception(type(error), error, error.__traceback__))))
    return path
