"""Folders and files of pi on the pod, and its venvs: other users must not be able to change them."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
from typing import Iterable, Optional, Set

from pi.on_pod import probe, reading

HOME = os.path.expanduser("~/.pi")

FOLDERS = ("", "run", "calls", "setup", "keys", "hf", "compiled", "../.vllm_logs")
"""Folders below HOME."""

RUN_OR_READ = ("env.sh", "machine")
"""Files that calls run or read."""

NOT_WRITTEN = ("machine",)
"""Those of them that a setup does not write again."""

RUNS_VENVS = ("check", "scale", "setup", "start", "survey")
"""Modules whose verbs run programs of the venvs, or begin something. `stop` and `list` always work."""

IN_VENV = ("", "bin", "bin/python", "bin/vllm", "lib", "lib/python3*", "lib/python3*/site-packages")
"""What decides which code a venv runs."""

TOOLS = ("", "uv", "uvx")
"""What pi runs of ~/.local/bin, where setup puts uv."""


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
        with os.fdopen(probe.unnamed(folder), "wb") as file:
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


def folder_objection() -> Optional[str]:
    """Return why pi cannot make files in one of its folders, because something else has its name, or None."""
    for path in (os.path.normpath(os.path.join(HOME, name)) for name in FOLDERS):
        if os.path.lexists(path) and not os.path.isdir(path):
            return "%s on the pod is not a folder" % _shown(path)
    return None


def venv_objection() -> Optional[str]:
    """Return why pi must not run a program of ~/venv, an extra venv or ~/.local/bin, or None.

    Files of root and of the home's owner are as good as this account's own. Takes away other users' right to write
    what is this account's own.
    """
    home = os.path.dirname(HOME)
    owners = {0, os.geteuid(), os.stat(home).st_uid} | _unmapped()
    for folder, names in ((".local/bin", TOOLS), ("venv", IN_VENV), ("venv-*", IN_VENV)):
        for place in glob.glob(os.path.join(glob.escape(home), folder)):
            problem = _first_problem(place, names, owners)
            if problem:
                return "%s on the pod %s" % (_shown(place), problem)
    return None


def _first_problem(place: str, names: Iterable[str], owners: Set[int]) -> Optional[str]:
    for path in (found for name in names for found in glob.glob(os.path.join(glob.escape(place), name))):
        problem = _writers(path, owners)
        if problem:
            inside = os.path.relpath(path, place)
            return problem if inside == "." else "is not safe: %s %s" % (inside, problem)
    return None


UID_MAP, OVERFLOW = "/proc/self/uid_map", "/proc/sys/kernel/overflowuid"


def _unmapped() -> Set[int]:
    """Return the uid that the kernel shows for users outside of this user namespace, such as the host's root."""
    try:
        shown = int(reading.text(OVERFLOW, 20))
        ranges = [list(map(int, line.split())) for line in reading.text(UID_MAP, 65536).splitlines()]
    except ValueError:
        return set()
    return set() if any(first <= shown < first + count for first, _, count in ranges) else {shown}


def _writers(path: str, owners: Set[int]) -> Optional[str]:
    """Return how another user can change a path, such as "belongs to another user (uid 7)", or None."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if found.st_uid not in owners:
        return "belongs to another user (uid %d)" % found.st_uid
    if is_open(found):
        with contextlib.suppress(OSError):
            os.chmod(path, stat.S_IMODE(found.st_mode) & ~0o022)
            found = os.stat(path)
    return "can be written by other users" if is_open(found) else None


def is_open(found: os.stat_result) -> bool:
    """Return whether other users may write; root's group has only root."""
    return bool(found.st_mode & 0o002 or (found.st_mode & 0o020 and found.st_gid))


def _shown(path: str) -> str:
    return "~" + path[len(os.path.dirname(HOME)) :]
