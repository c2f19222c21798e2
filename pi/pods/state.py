"""pods.json as a file: read, locked, changed as one step, and kept. The only reader and writer of that file."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pi import screen
from pi.config import config_dir
from pi.errors import BusyError, InputError, RemoteError
from pi.pods import file_format
from pi.pods.types import State


def path() -> Path:
    return config_dir() / "pods.json"


def load() -> State:
    """Read pods.json; an absent file is an empty state, and so is an empty one that has no copy beside it.

    Raises InputError naming what is wrong in it.
    """
    file = path()
    _check_places(file)
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise InputError("state-unreadable", f"cannot read {file}: {error.strerror}", _way_in(file, error)) from None
    backup = _backup_of(_real(file))
    try:
        if not raw.strip():
            if not backup.exists():
                return State()
            raise ValueError("it is empty")
        return file_format.read(raw)
    except file_format.NewerError as error:
        raise InputError("state-newer", f"{file} has {error}", "upgrade pi") from None
    except ValueError as error:
        way_on = "mend it, or move it away to start anew"
        if backup.exists():
            way_on = f"the last good copy is {backup}; to go back to it: {shlex.join(['cp', str(backup), str(file)])}"
        raise InputError("state-invalid", f"{file} cannot be used: {error}", way_on) from None


def change(edit: Callable[[State], State]) -> State:
    """Read, edit and write pods.json as one step that no other pi can interrupt. Returns the new state.

    The write is whole or not at all: a new file, flushed to disk, takes the old one's place, and the old
    one is kept as pods.json.bak. What could not be read again is not written (RemoteError): a pod may say anything.
    Raises InputError where it cannot be written, BusyError where another pi does not let go of it.
    """
    folder = config_dir()
    _check_places(folder / "pods.json")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / "pods.json.lock"):
            before = load()
            after = edit(before)
            if after != before or not path().exists():
                _write(_real(path()), _text_of(after))
            return after
    except OSError as error:
        place = Path(os.fsdecode(error.filename or folder))
        raise InputError("state-unwritable", f"cannot write {place}: {error.strerror}", _way_in(place, error)) from None


def _real(place: Path) -> Path:
    """Where the links lead; of links in a circle, one of them (Path.resolve raises RuntimeError there)."""
    return Path(os.path.realpath(place))


def _text_of(known: State) -> str:
    try:
        return file_format.written(known)
    except ValueError as error:
        raise RemoteError(
            "state-change-invalid", f"not written down, for it could not be read again: {error}"
        ) from None


def _check_places(file: Path) -> None:
    """Raises InputError where pods.json would be read from, or left at, a place that is not the user's own.

    A link that leads nowhere is no empty state: the disk that it leads to may only be away.
    """
    folder = file.parent
    for place, needed in ((folder, _real(folder)), (file, _real(file).parent)):
        if os.path.islink(place) and not needed.exists():  # noqa: PTH114 - Path.is_symlink raises PermissionError
            raise InputError("state-link-broken", f"{place} is a link to {place.readlink()}, and there is no {needed}")
    try:
        found = folder.stat()
    except OSError:
        return
    if found.st_mode & stat.S_IWOTH:
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
        raise InputError(
            "config-dir-world-writable",
            f"{folder} can be changed by every user of this machine ({mode})",
            f"chmod 700 {folder}",
        )
    if found.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        raise InputError(
            "config-dir-not-own", f"{folder} {_owned_by(found.st_uid)}", "name a folder of your own in PI_CONFIG_DIR"
        )


def _way_in(place: Path, error: OSError) -> str | None:
    """What to do about a place that belongs to somebody else, as after `sudo pi`."""
    if not isinstance(error, PermissionError):
        return None
    for nearest in (place, *place.parents):
        try:
            owner = nearest.stat().st_uid
        except OSError:
            continue
        return None if owner == os.geteuid() else f"{nearest} {_owned_by(owner)}"
    return None


def _owned_by(uid: int) -> str:
    return f"belongs to another user (uid {uid})"


WAIT_TOLD_S = 1.0
"""After so long a wait for another pi, the user is told of it."""


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    patience_s = _patience_s()
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as file:
        _take(file, lock, patience_s)
        file.truncate(0)
        file.seek(0)
        file.write(f"pid {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield
        file.truncate(0)


def _patience_s() -> float:
    given = os.environ.get("PI_LOCK_TIMEOUT") or "10"
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", given):
        raise InputError(
            "lock-timeout-invalid",
            f"PI_LOCK_TIMEOUT {given!r} is not a number of seconds",
            "such as PI_LOCK_TIMEOUT=30",
        )
    return float(given)


def _take(file: IO[str], lock: Path, patience_s: float) -> None:
    began = time.monotonic()
    told = False
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - began
        except OSError as error:
            raise InputError(
                "state-not-lockable",
                f"{lock} cannot be locked: {error.strerror}",
                "name a folder on a disk of this machine in PI_CONFIG_DIR",
            ) from None
        if waited > patience_s:
            raise BusyError(
                "state-locked",
                f"{lock} is held by {_holder(file)}",
                "wait for it to end, or raise PI_LOCK_TIMEOUT (seconds)",
            )
        if waited > WAIT_TOLD_S and not told:
            screen.note(f"waiting for {_holder(file)}, which holds {lock} (Ctrl+C ends the waiting)")
            told = True
        time.sleep(0.02)


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read(200) or "another program"


def _backup_of(file: Path) -> Path:
    """Where the last good copy of a pods.json is; the file is given without links."""
    return file.with_name(file.name + ".bak")


def _write(file: Path, text: str) -> None:
    """Write the file, which is given without links. Only the holder of the lock does."""
    fresh = file.with_name(file.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        if file.exists():
            _keep(file, _backup_of(file))
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _keep(file: Path, backup: Path) -> None:
    second = backup.with_name(backup.name + ".new")
    second.unlink(missing_ok=True)
    try:
        os.link(file, second)
    except OSError:  # a file system without hard links
        second.touch(mode=0o600)
        second.write_bytes(file.read_bytes())
    second.replace(backup)
