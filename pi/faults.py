"""Report unexpected errors in one line; with PI_DEBUG=1, write the traceback to a private file."""

from __future__ import annotations

import errno
import os
import time
import traceback
from pathlib import Path

from pi import config
from pi.redaction import redacted


def describe(error: BaseException) -> str:
    """Return the message for an unexpected error, without its traceback."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"pi: cannot write: {error.strerror}"
    message = f"pi: unexpected {type(error).__name__}: {error}"
    if not os.environ.get("PI_DEBUG"):
        return f"{message}\n  this is a bug in pi; repeat with PI_DEBUG=1 for a file with the traceback, and report it"
    try:
        return f"{message}\n  this is a bug in pi; please report it with {_written(error)}"
    except OSError as refusal:
        return f"{message}\n  this is a bug in pi; please report it (cannot write the traceback: {refusal.strerror})"


def _written(error: BaseException) -> Path:
    """Write the traceback, without secrets, and return its file."""
    folder = config.config_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"debug-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.txt"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(redacted("".join(traceback.format_exception(type(error), error, error.__traceback__))))
    return path
