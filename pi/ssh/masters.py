"""Warm connections: an `ssh` in the background that holds a connection, and the socket that leads to it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import subprocess
import tempfile
from pathlib import Path

from pi import config
from pi.errors import InputError
from pi.ssh.settings import escaped

PERSIST_S = 60
"""How long a warm connection stays open after its last command, if neither PI_SSH_PERSIST nor config.toml says it."""

LONGEST_S = 99999

UNSHARED_PERSIST_S = 10
"""How long a connection outlives its command if warm connections are off and pi is killed before it closes it."""

MAX_SOCKET_PATH = 84
"""A Unix socket's path has at most 104 bytes (macOS), and ssh appends 17 while it creates one."""

ALONE = {"ControlMaster": "no", "ControlPath": "none"}
"""The options of a connection that is not shared."""


def persist_s(folder: Path) -> int:
    """Return how long a warm connection stays, in seconds; 0 if there are none.

    PI_SSH_PERSIST says it, or else `ssh_persist` of config.toml in pi's folder. Raises InputError.
    """
    name = "PI_SSH_PERSIST"
    value: object = os.environ.get(name)
    if value is None:
        name, value = f"{folder / config.SETTINGS}: ssh_persist", config.value_of(folder, "ssh_persist")
    if value is None:
        return PERSIST_S
    seconds = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,5}", value) else value
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds <= LONGEST_S:
        raise InputError(
            "persist-invalid",
            f"{name} {value!r} is not a number of seconds from 0 to {LONGEST_S}",
            "0 switches warm connections off",
        )
    return seconds


def socket_path(folder: Path, described: str, persist: int) -> Path | None:
    """Return the socket of the connection that `described` stands for, or None if no folder is private.

    The next command has the same one, unless warm connections are off (`persist` is 0). It is below pi's config dir
    `folder`, or if that makes too long a path, in the folder for sockets of this user.
    """
    name = hashlib.sha256(described.encode()).hexdigest()[:16] if persist else secrets.token_hex(8)
    for parent in (folder / "ssh", _runtime_folder()):
        path = parent / name
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH and _is_private(parent):
            return path
    return None


def shared(path: Path, persist: int) -> dict[str, str]:
    """Return the options of a connection that is shared by a socket and stays for `persist` seconds."""
    stays = persist or UNSHARED_PERSIST_S
    return {"ControlMaster": "auto", "ControlPath": escaped(path), "ControlPersist": str(stays)}


def control(path: Path, request: str, words: list[str]) -> None:
    """Tell the process behind a socket to "stop" sharing its connection, or to "exit"; `words` name the host."""
    if not path.exists():
        return
    with contextlib.suppress(subprocess.TimeoutExpired, OSError):
        subprocess.run(
            ["ssh", "-q", "-O", request, "-o", f"ControlPath={escaped(path)}", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=1,
        )
    path.unlink(missing_ok=True)


def _runtime_folder() -> Path:
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"pi-{os.getuid()}"


def _is_private(folder: Path) -> bool:
    """Make a folder that only this user can enter; return whether it is one."""
    with contextlib.suppress(OSError):
        config.make_private(folder)
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return False
