"""`--mount` strings: the command a provider shows for its shared storage, as words, and where it mounts."""

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass
from itertools import pairwise

from pi.errors import InputError

PROGRAMS = ("mount", "mount.nfs", "mount.nfs4", "sshfs", "rclone", "s3fs")

WITH_VALUE = {"-o", "-t", "-O", "-L", "-U", "--options", "--types", "--source", "--cache-dir", "--config"}
"""Options whose next word is their value, so that a path in it is not taken for the target."""

SYSTEM_FOLDERS = {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run",
                  "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var"}  # fmt: skip  # noqa: S108


@dataclass(frozen=True)
class Mount:
    words: tuple[str, ...]
    """The command without `sudo`, which setup adds where the login is not root."""
    target: str


def parse(text: str) -> Mount:
    """The mount command as words and its target, the last absolute path that is not an option's value.

    Raises InputError for anything but one plain mount command onto a directory of its own.
    """
    if set(text) & set(";&|<>$`\n\r\0"):
        raise InputError(f"--mount {text!r} is more than one plain command", "give only the mount command itself")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"--mount {text!r} cannot be read: {error}", "check its quotes") from None
    if words[:1] == ["sudo"]:
        words = words[1:]
    if not words or words[0].rpartition("/")[2] not in PROGRAMS:
        raise InputError(f"--mount {text!r} is not a mount command", f"it begins with one of: {', '.join(PROGRAMS)}")
    paths = [word for before, word in pairwise(words) if word.startswith("/") and before not in WITH_VALUE]
    if not paths:
        raise InputError(f"--mount {text!r} names no directory to mount on", "it ends with an absolute path")
    return Mount(tuple(words), directory(paths[-1], "--mount"))


def directory(path: str, option: str) -> str:
    """A normalised absolute directory that is not one of the system's own. Raises InputError."""
    clean = posixpath.normpath(path)
    if not path.startswith("/") or ".." in path.split("/") or not path.isprintable():
        raise InputError(f"{option}: {path!r} is not an absolute path", "write it in full, such as /mnt/models")
    if clean in SYSTEM_FOLDERS or clean.split("/")[1] in ("dev", "etc", "proc", "sys"):
        raise InputError(f"{option}: {clean} belongs to the system", "choose a directory such as /mnt/models")
    return clean
