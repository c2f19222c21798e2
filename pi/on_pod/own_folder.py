"""Whether programs may be loaded from a folder on storage: only this account can change it, here and on other pods."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from typing import Iterator, NamedTuple, Optional

from pi.on_pod import private, probe, reading

PROBE_BYTES = 64 * 1024

KEEPS_OWNERS = re.compile("bcachefs|beegfs|btrfs|ceph|ext[234]|f2fs|gpfs|lustre|nfs4?|overlay|tmpfs|wekafs|xfs|zfs")
"""File systems that show the real owner of a file. Others may show the user who mounted them (cifs, rclone)."""

ESCAPED = re.compile(r"\\([0-7]{3})")

ANOTHER_UID = 1
"""A user to whom root gives a file, to see whether a file system keeps owners."""


def objection(folder: str) -> Optional[str]:
    """Make a folder, and return why no program may be loaded from it, such as "/mnt/m can be written by other users".

    Blocks as long as its storage does.
    """
    try:
        problem = _above(os.path.dirname(folder))
        if problem:
            return problem
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        return _folder(folder) or _file_system(folder)
    except OSError as error:
        return "%s: %s" % (error.filename or folder, (error.strerror or "unknown error").lower())


def _above(folder: str) -> Optional[str]:
    """Return who else can put another folder in the place of one below."""
    owners = {0, os.geteuid()}
    for path in _with_parents(os.path.realpath(folder)):
        found = os.stat(path)
        if found.st_uid not in owners:
            return "%s belongs to another user (uid %d)" % (path, found.st_uid)
        if private.is_open(found) and not found.st_mode & stat.S_ISVTX:
            return "%s can be written by other users" % path
    return None


def _with_parents(path: str) -> Iterator[str]:
    while True:
        yield path
        if path == os.path.dirname(path):
            return
        path = os.path.dirname(path)


def _folder(folder: str) -> Optional[str]:
    """Return what is wrong with a folder that existed. pi does not repair it: others may have written into it."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        return "%s is not a folder" % folder
    if found.st_uid != os.geteuid():
        return "%s belongs to another user (uid %d)" % (folder, found.st_uid)
    if found.st_mode & 0o077:
        return "other users may use %s" % folder
    return None


def _file_system(folder: str) -> Optional[str]:
    """Return what compilers and their caches need that a file system does not have."""
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return "%s is mounted noexec" % folder
    with os.fdopen(probe.unnamed(folder), "wb") as file:
        file.write(bytes(PROBE_BYTES))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if KEEPS_OWNERS.fullmatch(_kind(folder)) or (os.geteuid() == 0 and _keeps_owner(file.fileno())):
            return None
    return "%s may not show the real owners of files" % folder


def _keeps_owner(descriptor: int) -> bool:
    try:
        os.fchown(descriptor, ANOTHER_UID, -1)
    except OSError:
        return False
    return os.fstat(descriptor).st_uid == ANOTHER_UID


def _kind(folder: str) -> str:
    """Return the type of a folder's file system, such as "nfs4"."""
    return mounted(folder).kind


class Mount(NamedTuple):
    """A mount: its type, what is mounted, such as "server:/models", and where."""

    kind: str
    source: str
    point: str


def mounted(folder: str) -> Mount:
    """Return the mount that has a folder (proc(5): /proc/PID/mountinfo)."""
    path, longest, found = os.path.realpath(folder), 0, Mount("", "", "")
    for line in reading.text("/proc/self/mountinfo").splitlines():
        mount, _, source = line.partition(" - ")
        point = ESCAPED.sub(lambda code: chr(int(code[1], 8)), (mount.split() + [""] * 5)[4])
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= longest:  # a later mount covers an earlier one at the same point
            kind, what = [*source.split(" "), "", ""][:2]
            longest, found = len(point), Mount(kind, what, point)
    return found
