"""The files of the door in pi's folder: its description, which a running door locks, its key, its log.

`door/door.json` stays after the door is closed, so that the next one has the same port.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pi import config, redaction
from pi.errors import BusyError, InputError, PiError, RemoteError
from pi.steps import own_process

HOST, PORT = "127.0.0.1", 4000

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - only if the user asks for it
"""Addresses that stand for all of this machine's."""

READERS_S = 0.5
"""How long other commands may lock the file while they read it."""

STOP_S = 10


@dataclass(frozen=True)
class Door:
    """A door: where it listens, and the process that has it open. `pid` is 0 if it is closed."""

    host: str
    port: int
    pid: int = 0
    started: float = 0.0
    ttl_s: int | None = None
    """After how long without requests it stops models; None if it does not."""
    pinned: tuple[str, ...] = ()
    """Models that it never stops, as NAME or POD/NAME."""

    def stops_after_s(self, pod: str, model: str) -> int | None:
        """Return after how long without requests it stops a model that it can start again; None if it does not."""
        return None if {model, f"{pod}/{model}"} & set(self.pinned) else self.ttl_s

    @property
    def address(self) -> str:
        """The address for clients on this machine."""
        return HOST if self.host in EVERYWHERE else self.host

    @property
    def url(self) -> str:
        return f"http://{f'[{self.address}]' if ':' in self.address else self.address}:{self.port}/v1"


def folder() -> Path:
    return config.config_dir() / "door"


def log_path(place: tuple[str, str] | None = None) -> Path:
    """Return the log of a door in the background, or of its last start or stop of a model (a pod and a name)."""
    return folder() / place[0] / f"{place[1]}.log" if place else folder() / "log"


def key_path() -> Path:
    return folder() / "key"


def last() -> Door | None:
    """Return the door of the file, open or closed; None if it is missing or damaged."""
    try:
        with _path().open(encoding="utf-8") as file:
            is_open = not _lock(file.fileno())
            document = json.load(file)
        ttl_s = document.get("ttl_s")
        door = Door(
            host=str(document["host"]),
            port=int(document["port"]),
            pid=int(document["pid"]),
            started=float(document["started"]),
            ttl_s=None if ttl_s is None else int(ttl_s),
            pinned=tuple(map(str, document.get("pinned", ()))),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not 0 < door.port < 65536 or door.pid <= 1:
        return None
    return door if is_open else Door(door.host, door.port)


def opened() -> Door | None:
    door = last()
    return door if door and door.pid else None


@contextlib.contextmanager
def claimed(host: str, port: int, ttl_s: int | None = None, pinned: tuple[str, ...] = ()) -> Iterator[Door]:
    """Hold the door's file while it is open. Raises BusyError if another process holds it."""
    make_folder()
    try:
        descriptor = os.open(_path(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(_path(), error) from None
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        deadline = time.monotonic() + READERS_S
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                raise already_open()
            time.sleep(0.05)
        door = Door(host, port, os.getpid(), time.time(), ttl_s, pinned)
        file.truncate()
        json.dump(asdict(door), file)
        file.flush()
        yield door


def already_open() -> BusyError:
    return BusyError("door-open", "the door is already open", "see: pi door status; to close it: pi door stop")


def close(door: Door) -> None:
    """End the process of a door. Raises RemoteError if it does not end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(door.pid, number)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            if opened() is None:
                return
            time.sleep(0.05)
    raise RemoteError("door-not-closed", f"the door (pid {door.pid}) does not end")


def key() -> str:
    """Return the door's own key; the first door makes it. Raises InputError."""
    path = key_path()
    make_folder()
    try:
        if not path.exists():
            _make_key(path)
        if path.stat().st_mode & 0o077:
            raise InputError("door-key-open", f"other users can read {path}", f"chmod 600 {path}")
        found = path.read_text("utf-8", "replace").strip()
    except OSError as error:
        raise unwritable(path, error) from None
    if len(found) < 16 or not all("!" <= character <= "~" for character in found):
        raise InputError("door-key-invalid", f"{path} does not contain a key", "delete it; the next pi door makes one")
    redaction.add(found)
    return found


def _make_key(path: Path) -> None:
    """Write a key into a file at once, unless another process has."""
    fresh = path.with_name(f"key.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    write_new(fresh, f"sk-door-{secrets.token_urlsafe(32)}\n")
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()


def make_folder() -> None:
    try:
        config.make_private(folder())
    except OSError as error:
        raise unwritable(folder(), error) from None


def new_log(place: tuple[str, str] | None = None) -> int:
    """Return the descriptor of an empty log. Raises InputError."""
    path = log_path(place)
    make_folder()
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        own_process.require_room(log)
        return log
    except OSError as error:
        raise unwritable(path, error) from None


def last_error(code: int, place: tuple[str, str] | None = None) -> PiError:
    """Return the error of a run of pi by its log and exit code."""
    text = log_path(place).read_text("utf-8", "replace")
    first, _, rest = text.rpartition("pi: ")[2].strip().partition("\n")
    error = RemoteError("door-failed", first or f"pi ended with status {code}", rest.strip() or None)
    error.exit_code = code if 0 < code < 128 else 1
    return error


def write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _path() -> Path:
    return folder() / "door.json"


def unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        "door-file-unwritable", f"cannot write {path}: {error.strerror}", "set PI_CONFIG_DIR to another folder"
    )


def _lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; return whether no other process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
