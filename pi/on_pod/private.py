"""Folders and files of pi on the pod: they must belong to this account alone."""

from __future__ import annotations

import os
import stat
import tempfile
from typing import Iterable, Optional

HOME = os.path.expanduser("~/.pi")

FOLDERS = ("", "run", "calls", "setup", "keys", "hf", "../.vllm_logs")
"""Folders below HOME."""

RUN_OR_READ = ("env.sh", "machine")
"""Files that calls run or read."""

NOT_WRITTEN = ("machine",)
"""Those of them that a setup does not write again."""


def objection(is_setup: bool) -> Optional[str]:
    """Make pi's folders private, and return why pi must not use them, or None.

    A setup writes the other files again, so it looks at NOT_WRITTEN alone.
    """
    if not os.path.isdir(HOME):
        return "~/.pi on the pod is not a folder" if os.path.lexists(HOME) else None
    problems = (_folder(os.path.normpath(os.path.join(HOME, name))) for name in FOLDERS)
    return next(filter(None, problems), None) or _file_objection(NOT_WRITTEN if is_setup else RUN_OR_READ)


def _folder(path: str) -> Optional[str]:
    try:
        found = os.stat(path)
    except OSError:
        return None  # it does not exist, or using it reports the reason
    if found.st_uid != os.geteuid() and found.st_uid != _uid_of_new_files(path):
        return "%s on the pod belongs to another user (uid %d)" % (_shown(path), found.st_uid)
    if found.st_mode & 0o077:
        try:
            os.chmod(path, 0o700)
            found = os.stat(path)
        except OSError as error:
            return "other users may use %s on the pod, and pi cannot change that: %s" % (_shown(path), error.strerror)
    if found.st_mode & 0o022:
        return "other users may write into %s on the pod, and its file system allows no change" % _shown(path)
    return None


def _uid_of_new_files(folder: str) -> int:
    """Return whom a new file in a folder belongs to: on some network storage, root's files are another user's."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:
        return os.geteuid()


def _file_objection(names: Iterable[str]) -> Optional[str]:
    """Return why pi must not run or read a file."""
    owner = os.stat(HOME).st_uid
    for name in names:
        path = os.path.join(HOME, name)
        try:
            found = os.lstat(path)
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):
            return "%s on the pod is not a file" % _shown(path)
        if found.st_uid != owner:
            return "%s on the pod belongs to another user (uid %d)" % (_shown(path), found.st_uid)
        if found.st_mode & 0o022:
            return "other users may write %s on the pod" % _shown(path)
    return None


def _shown(path: str) -> str:
    return "~" + path[len(os.path.dirname(HOME)) :]
