"""What a pod remembers of its deployments: one private folder each under ~/.pi/run, and the lock.

A folder holds `record.json` (name, model, port, GPUs, process identity), `launch.sh`, `key`, `pid` and,
once the server has ended, `exit`. Losing pods.json loses nothing: these tell it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from typing import Any, Iterator, Optional

from pi.on_pod import process
from pi.on_pod.wire import PodError, Wire

HOME = os.path.expanduser("~/.pi")

RUN = os.path.join(HOME, "run")

NO_SESSION = -1

LOGS = os.path.expanduser("~/.vllm_logs")


def folder(name: str) -> str:
    return os.path.join(RUN, name)


def log_path(name: str) -> str:
    return os.path.join(LOGS, name + ".log")


@contextlib.contextmanager
def locked(wire: Wire, patience_s: float = 60) -> Iterator[None]:
    """The pod's lock, held while a port, GPUs and a name are chosen. The kernel frees it if its holder dies.

    One holder is waited for so long; where many wait, it passes from one to the next as long as that takes.
    """
    os.makedirs(HOME, mode=0o700, exist_ok=True)
    with open(os.path.join(HOME, "lock"), "a+") as file:
        holder, since = "", time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                wire.check_cancelled()
            file.seek(0)
            current = file.read()
            if current != holder:
                holder, since = current, time.monotonic()
            elif time.monotonic() - since > patience_s:
                raise PodError("busy", "%s has held this pod's lock for %d s" % (holder or "another pi", patience_s))
            time.sleep(0.05)
        with contextlib.suppress(OSError):  # a full disk: others wait as well without a name
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), ("pid %d on the pod, for %s," % (os.getpid(), wire.who)).encode())
        yield


def write(name: str, file_name: str, text: str) -> None:
    """Put a private file into a deployment's folder, whole or not at all."""
    os.makedirs(folder(name), mode=0o700, exist_ok=True)
    path = os.path.join(folder(name), file_name)
    with open(path + ".new", "w", opener=_private) as file:
        file.write(text)
    os.replace(path + ".new", path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def key(name: str) -> str:
    """The key that guards a deployment; empty where there is none."""
    try:
        with open(os.path.join(folder(name), "key")) as file:
            return file.read()
    except OSError:
        return ""


def save(record: dict[str, Any]) -> None:
    write(record["name"], "record.json", json.dumps(record))


def load(name: str) -> Optional[dict[str, Any]]:
    """A deployment's record, or None where the pod knows none of that name."""
    try:
        with open(os.path.join(folder(name), "record.json")) as file:
            record: dict[str, Any] = json.load(file)
            return record
    except (OSError, ValueError):
        return None


def load_all() -> list[dict[str, Any]]:
    try:
        names = sorted(os.listdir(RUN))
    except OSError:
        return []
    return [record for record in map(load, names) if record]


def forget(name: str) -> None:
    shutil.rmtree(folder(name), ignore_errors=True)


def exit_code(name: str) -> Optional[int]:
    """How the server ended, or None while it runs or when nobody was there to see."""
    noted = _exit(name)
    return noted[0] if noted else None


def ended_s_ago(name: str) -> Optional[float]:
    """Seconds since the server ended; None as for `exit_code`."""
    noted = _exit(name)
    return max(0.0, process.uptime_s() - noted[1]) if noted else None


def _exit(name: str) -> Optional[tuple[int, float]]:
    """Exit code and uptime at the end, as the launcher wrote them down."""
    try:
        with open(os.path.join(folder(name), "exit")) as file:
            code, when = file.read().split()[:2]
            return int(code), float(when)
    except (OSError, ValueError):
        return None


def is_of_another_boot(record: dict[str, Any]) -> bool:
    """Whether the pod was restarted since: the machine, or the container around its first process."""
    since: int = record.get("started") or record.get("owner_started", 0)
    is_other: bool = record.get("boot_id", "") != process.boot_id()
    return is_other or 0 < since < process.first_started()


def is_running(record: dict[str, Any]) -> bool:
    return process.is_alive(record.get("pid", 0), record.get("started", 0), record.get("boot_id", ""))


def is_starting(record: dict[str, Any]) -> bool:
    """Whether some pi call on this pod is still at work for it (downloading or launching)."""
    return record["status"] == "starting" and process.is_alive(
        record.get("owner", 0), record.get("owner_started", 0), record.get("boot_id", "")
    )


def living(record: dict[str, Any]) -> list[int]:
    """Living processes of a deployment, its launcher included."""
    return process.members(_session(record), record["instance"])


def _session(record: dict[str, Any]) -> int:
    """Its session, while that number can mean no other: the same boot, and no leader younger than the server."""
    session: int = record.get("session", NO_SESSION)
    leader = process.stat(session)
    is_younger = leader is not None and leader[2] > record.get("started", 0) > 0
    return NO_SESSION if is_younger or is_of_another_boot(record) else session
