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

from pi.errors import InputError
from pi.ssh.settings import escaped

PERSIST_S = 60
"""How long a warm connection stays open after its last command. PI_SSH_PERSIST changes it; 0 switches it off."""

UNSHARED_PERSIST_S = 10
"""How long a connection outlives its command if warm connections are off and pi is killed before it closes it."""

MAX_SOCKET_PATH = 84
"""A Unix socket's path has at most 104 bytes (macOS), and ssh appends 17 while it creates one."""

ALONE = {"ControlMaster": "no", "ControlPath": "none"}
"""The options of a connection that is not shared."""


def persist_s() -> int:
    """Return how long a warm connection stays, in seconds; 0 if there are none."""
    text = os.environ.get("PI_SSH_PERSIST", str(PERSIST_S))
    if not re.fullmatch(r"\d{1,5}", text):
        raise InputError("persist-invalid", f"PI_SSH_PERSIST {text!r} is not a number of seconds", "0 switches it off")
    return int(text)


def socket_path(folder: Path, described: str) -> Path | None:
    """Return the socket of the connection that `described` stands for, or None if no folder is private.

    The next command has the same one, unless warm connections are off. It is below pi's config dir `folder`, or if
    that makes too long a path, in the folder for sockets of this user.
    """
    name = hashlib.sha256(described.encode()).hexdigest()[:16] if persist_s() else secrets.token_hex(8)
    for parent in (folder / "ssh", _runtime_folder()):
        path = parent / name
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH and _is_private(parent):
            return path
    return None


def shared(path: Path) -> dict[str, str]:
    """Return the options of a connection that is shared by a socket."""
    persist = persist_s() or UNSHARED_PERSIST_S
    return {"ControlMaster": "auto", "ControlPath": escaped(path), "ControlPersist": str(persist)}


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
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return False
