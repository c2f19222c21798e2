"""Make private files. What had the name before is removed, so a FIFO or a link there does no harm."""

from __future__ import annotations

import contextlib
import os
import shutil


def fresh(path: str) -> int:
    """Return a descriptor of a new, private file that only this call writes. Raises OSError."""
    with contextlib.suppress(OSError):
        os.unlink(path)
    if os.path.isdir(path):
        shutil.rmtree(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def remove(path: str) -> None:
    """Delete a folder, or what has its name. Errors are left to the caller, who sees that it is still there."""
    with contextlib.suppress(OSError):
        os.unlink(path)  # if it is not a folder; rmtree waits for a FIFO
    shutil.rmtree(path, ignore_errors=True)


def replace(path: str, text: str) -> None:
    """Write a private file, whole or not at all. Raises OSError."""
    try:
        with os.fdopen(fresh(path + ".new"), "w") as file:
            file.write(text)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        os.replace(path + ".new", path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path + ".new")
        raise
