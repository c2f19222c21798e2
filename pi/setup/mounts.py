"""Parse `--mount`: the mount command that a provider shows for its shared storage."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pi.errors import InputError

LONGEST = 1024
"""Maximum characters of a path."""

PROGRAMS = ("mount", "mount.nfs", "mount.nfs4", "sshfs", "rclone", "s3fs")

WITH_VALUE = {"-o", "-t", "-O", "-L", "-U", "--options", "--types", "--source", "--cache-dir", "--config"}
"""Options whose next word is their value; a path in it is not the target."""

SYSTEM_FOLDERS = {"/", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/usr/local",  # noqa: S108
                  "/var", "/var/cache", "/var/lib", "/var/log", "/var/run", "/var/tmp"}  # fmt: skip  # noqa: S108
"""Folders that may contain a mount but cannot be one."""

SYSTEM_TREES = {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys"}
"""Folders of `/` that cannot even contain a mount."""

MOUNT_OPTION = re.compile(r"-[to].*|-[vrwnBRims]+|--(bind|rbind|verbose|read-only|rw|mkdir)|--(types|options)(=.*)?")
"""Supported options of mount(8); others could change where the command names its source or target."""

SECRET = re.compile(
    r"[\w-]*(?:pass|secret|token|pwd|access[-_]key)(?![\w-]*(?:file|stdin|[-_]id|command)$)[\w-]*", re.I
)
"""Names of options whose value is a credential, not a file that contains one."""

RUNS = re.compile(r"ssh_command|proxycommand|localcommand|knownhostscommand|sftp_server|"
                  r"-*password-command|-*sftp-ssh|-*metadata-mapper|-*rc|-*rc-\w+", re.I)  # fmt: skip
"""Names of options that run another program or open remote control."""


@dataclass(frozen=True)
class Mount:
    words: tuple[str, ...]
    """The command without `sudo`; setup adds it if the login is not root."""
    target: str


def parse(text: str) -> Mount:
    """Return the mount command as words, and its target.

    The target is the last absolute path that is not an option's value; sources may be devices such as /dev/vdb.
    Raises InputError unless the text is one plain mount command onto a directory of its own.
    """
    if set(text) & set(";&|<>$`\n\r\0"):
        raise InputError(
            "mount-not-one-command", "--mount contains more than one plain command", "give only the mount command"
        )
    if not text.replace("\t", " ").isprintable():
        raise InputError(
            "mount-unprintable",
            "--mount contains an unprintable character",
            "paste the command as one line of plain text",
        )
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError("mount-unreadable", f"cannot parse --mount: {error}", "check its quotes") from None
    _check_options(words)
    if words[:1] == ["sudo"]:
        words = words[1:]
    if not words or words[0].rpartition("/")[2] not in PROGRAMS:
        raise InputError(
            "mount-not-a-mount",
            f"--mount {text!r} is not a mount command",
            f"begin with one of: {', '.join(PROGRAMS)}",
        )
    paths = [word for before, word in pairwise(words) if word.startswith("/") and before not in WITH_VALUE]
    if paths and re.match("//[^/]", paths[0]):  # cifs: //server/share
        paths = paths[1:]
    if not paths:
        raise InputError(
            "mount-without-directory",
            f"--mount {text!r} has no directory to mount on",
            "end the command with an absolute path",
        )
    return Mount(tuple(words), directory(paths[-1], "--mount"))


def _check_options(words: list[str]) -> None:
    """Raises InputError for credentials, and for options that run programs or hide the target.

    Process lists would show the credentials. The messages never contain a value.
    """
    if words[:1] and words[0].rpartition("/")[2].startswith("mount"):
        for word in words[1:]:
            if word.startswith("-") and not MOUNT_OPTION.fullmatch(word):
                raise InputError(
                    "mount-option-refused",
                    f"--mount cannot contain {word[:40]}",
                    "use only -t, -o, -v, -r, -w and --bind",
                )
    for name in _option_names(words):
        if SECRET.fullmatch(name):
            raise InputError(
                "mount-credential",
                f"--mount contains a credential ({name}), which process lists on the pod would show",
                "put it into a private file on the pod and name the file: -o credentials=/root/.share",
            )
        if RUNS.fullmatch(name):
            raise InputError(
                "mount-runs-program", f"--mount cannot contain {name}: it runs another program", "remove it"
            )
    if any(re.search(r"[^\s/,:@]:[^\s/,:@]+@", word) for word in words):
        raise InputError(
            "mount-password",
            "--mount contains a password in an address, which process lists on the pod would show",
            "put it into a private file on the pod and name the file: -o credentials=/root/.share",
        )


def _option_names(words: list[str]) -> Iterator[str]:
    """Yield the names of options: `a` and `b` of "-o a=1,b=2", `--c` of "--c=1" and of "--c 1"."""
    for word in words:
        for piece in re.sub(r"^-[oO](?=.)", "", word).split(","):
            name, given, _ = piece.partition("=")
            if given or name.startswith("--"):
                yield name.strip()
            elif " " in name.strip():  # ssh's own "-o Name value"
                yield name.split()[0]


def directory(path: str, option: str) -> str:
    """Return the path normalised. Raises InputError unless it is absolute and not a system directory."""
    clean = "/" + posixpath.normpath(path).lstrip("/")
    if not path.startswith("/") or ".." in path.split("/") or not path.isprintable() or len(path) > LONGEST:
        raise InputError(
            "path-not-absolute",
            f"{option}: {path[:80]!r} is not an absolute path",
            "use a full path such as /mnt/models",
        )
    top, *below = clean.split("/")[1:]
    if clean in SYSTEM_FOLDERS or top in SYSTEM_TREES or (top == "usr" and below[:1] != ["local"]):
        raise InputError("path-of-system", f"{option}: {clean} is a system directory", "use one such as /mnt/models")
    return clean
