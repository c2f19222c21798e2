"""Read, lock, change and back up the file pods.json. No other module reads or writes it."""

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
    """Read pods.json. An absent file, or an empty one without a backup, is an empty state.

    Raises InputError if the file is invalid.
    """
    file = path()
    _check_paths(file)
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise InputError(
            "state-unreadable", f"cannot read {file}: {error.strerror}", _owner_hint(file, error)
        ) from None
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
        hint = "fix it, or move it away to start with an empty one"
        if backup.exists():
            hint = f"to restore the last good copy: {shlex.join(['cp', str(backup), str(file)])}"
        raise InputError("state-invalid", f"{file} is invalid: {error}", hint) from None


def change(edit: Callable[[State], State]) -> State:
    """Read, edit and write pods.json while holding its lock. Returns the new state.

    The write is atomic: a new file, flushed to disk, replaces the old one, which becomes pods.json.bak.
    Raises InputError if pi cannot write the file, BusyError if another pi keeps the lock.
    Raises RemoteError if `load` would reject the new state, because pods send any value.
    """
    with _held():
        before = load()
        after = edit(before)
        if after != before or not path().exists():
            _write(_real(path()), _text_of(after))
        return after


def require_writable() -> None:
    """Raise as `change` does if pi cannot write pods.json now. Call this before a step that cannot be undone."""
    with _held():
        _fresh(_real(path()), _text_of(load())).unlink()


@contextmanager
def _held() -> Iterator[None]:
    """Hold the lock of pods.json. Raises InputError for an OSError."""
    folder = config_dir()
    _check_paths(folder / "pods.json")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder / "pods.json.lock"):
            yield
    except OSError as error:
        file = Path(os.fsdecode(error.filename or folder))
        raise InputError(
            "state-unwritable", f"cannot write {file}: {error.strerror}", _owner_hint(file, error)
        ) from None


def _real(path: Path) -> Path:
    """Resolve links. In a loop of links, return one of them (Path.resolve raises RuntimeError)."""
    return Path(os.path.realpath(path))


def _text_of(state: State) -> str:
    try:
        return file_format.written(state)
    except ValueError as error:
        raise RemoteError(
            "state-change-invalid", f"refusing to write pods.json: the result would be invalid: {error}"
        ) from None


def _check_paths(file: Path) -> None:
    """Raises InputError if the config dir belongs to others or is open to them, or if a link is broken.

    A broken link does not mean an empty state: the disk of its target may be unmounted.
    """
    folder = file.parent
    for path, needed in ((folder, _real(folder)), (file, _real(file).parent)):
        if os.path.islink(path) and not needed.exists():  # noqa: PTH114 - Path.is_symlink raises PermissionError
            raise InputError("state-link-broken", f"{path} is a link to {path.readlink()}, but {needed} does not exist")
    try:
        status = folder.stat()
    except OSError:
        return
    if status.st_mode & stat.S_IWOTH:
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
        raise InputError(
            "config-dir-world-writable",
            f"every user of this machine can change {folder} ({mode})",
            f"chmod 700 {folder}",
        )
    if status.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        raise InputError(
            "config-dir-not-own", f"{folder} {_owned_by(status.st_uid)}", "set PI_CONFIG_DIR to a folder of your own"
        )


def _owner_hint(path: Path, error: OSError) -> str | None:
    """Name the other owner of the path, if permission was denied, for example after `sudo pi`."""
    if not isinstance(error, PermissionError):
        return None
    for nearest in (path, *path.parents):
        try:
            owner = nearest.stat().st_uid
        except OSError:
            continue
        return None if owner == os.geteuid() else f"{nearest} {_owned_by(owner)}"
    return None


def _owned_by(uid: int) -> str:
    return f"belongs to another user (uid {uid})"


WAIT_REPORTED_S = 1.0
"""pi reports a longer wait for another pi."""


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold a lock file. Raises BusyError if another pi keeps it, InputError if it cannot be locked."""
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
            f"invalid PI_LOCK_TIMEOUT {given!r}",
            "use a number of seconds such as 30",
        )
    return float(given)


def _take(file: IO[str], lock: Path, patience_s: float) -> None:
    began = time.monotonic()
    reported = False
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - began
        except OSError as error:
            raise InputError(
                "state-not-lockable",
                f"cannot lock {lock}: {error.strerror}",
                "set PI_CONFIG_DIR to a folder on a disk of this machine",
            ) from None
        if waited > patience_s:
            raise BusyError(
                "state-locked",
                f"{_holder(file)} holds {lock}",
                "wait for that process to end, or increase PI_LOCK_TIMEOUT (seconds)",
            )
        if waited > WAIT_REPORTED_S and not reported:
            screen.note(f"waiting for {_holder(file)} to release {lock} (Ctrl+C stops the wait)")
            reported = True
        time.sleep(0.02)


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read(200) or "another process"


def _backup_of(file: Path) -> Path:
    """Return the path of the last good copy. `file` contains no links."""
    return file.with_name(file.name + ".bak")


def _fresh(file: Path, text: str) -> Path:
    """Write a new file beside another one, flushed to disk. Returns its path."""
    fresh = file.with_name(file.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return fresh


def _write(file: Path, text: str) -> None:
    """Write the file while holding the lock. `file` contains no links."""
    fresh = _fresh(file, text)
    try:
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
    second.unlink(missing_ok=True)  # a rename of one link onto another of the same file does nothing (rename(2))
