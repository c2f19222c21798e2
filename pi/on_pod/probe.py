"""Write to a folder without leaving a name there. `tempfile` would take 3 ms of the CPU to import, at each call."""

from __future__ import annotations

import errno
import os

NO_SUCH_FILES = (errno.EISDIR, errno.EOPNOTSUPP, errno.ENOENT)
"""Errors of old kernels and file systems that have no files without a name (open(2))."""


def unnamed(folder: str) -> int:
    """Return a descriptor of a new file without a name, open for writing. Raises OSError."""
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in NO_SUCH_FILES:
            raise
    path = os.path.join(folder, ".pi-" + os.urandom(8).hex())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return descriptor
