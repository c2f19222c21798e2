"""Records of the pod's deployments, one private folder each under ~/.pi/run, and the pod's lock.

A folder contains `record.json` (name, model, port, GPUs, process identity), `launch.sh`, `key`, `pid` and, after
the server ended, `exit`. pi can restore a lost pods.json from them. The guard touches `asked` for requests.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from typing import Iterator, Optional, cast

from pi.on_pod import process
from pi.on_pod.shapes import LiveRecord, Record
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
    """Hold the pod's lock, under which pi chooses a port, GPUs and a name. The kernel frees it if its holder dies.

    Waits up to `patience_s` for each holder, one after the other. Raises PodError after that.
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
        with contextlib.suppress(OSError):  # a full disk: others wait without a name
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), ("pid %d on the pod, for %s," % (os.getpid(), wire.who)).encode())
        yield


def write(name: str, file_name: str, text: str) -> None:
    """Write a private file into a deployment's folder, whole or not at all."""
    os.makedirs(folder(name), mode=0o700, exist_ok=True)
    path = os.path.join(folder(name), file_name)
    with open(path + ".new", "w", opener=_private) as file:
        file.write(text)
    os.replace(path + ".new", path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def key(name: str) -> str:
    """Return the key of a deployment; empty if it has none."""
    try:
        with open(os.path.join(folder(name), "key")) as file:
            return file.read()
    except OSError:
        return ""


def save(record: Record) -> None:
    write(record["name"], "record.json", json.dumps(record))


def load(name: str) -> Optional[Record]:
    """Return a deployment's record, or None if the pod has none."""
    try:
        with open(os.path.join(folder(name), "record.json")) as file:
            record: Record = json.load(file)
            return record
    except (OSError, ValueError):
        return None


def load_all() -> list[Record]:
    try:
        names = sorted(os.listdir(RUN))
    except OSError:
        return []
    return [record for record in map(load, names) if record]


def forget(name: str) -> None:
    shutil.rmtree(folder(name), ignore_errors=True)


def forget_server(name: str) -> None:
    """Delete what the launcher wrote about a server that ended."""
    for file_name in ("pid", "exit"):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder(name), file_name))


def asked_s_ago(name: str) -> Optional[float]:
    """Return the age of the last request that a deployment's guard admitted, or None if it admitted none."""
    try:
        return max(0.0, time.time() - os.stat(os.path.join(folder(name), "asked")).st_mtime)
    except OSError:
        return None


def exit_code(name: str) -> Optional[int]:
    """Return the exit code of the server, or None if it runs or its launcher was killed."""
    ended = _exit(name)
    return ended[0] if ended else None


def ended_s_ago(name: str) -> Optional[float]:
    """Return the seconds since the server ended, or None as `exit_code` does."""
    ended = _exit(name)
    return max(0.0, process.uptime_s() - ended[1]) if ended else None


def _exit(name: str) -> Optional[tuple[int, float]]:
    """Return exit code and uptime at the end, as the launcher wrote them."""
    try:
        with open(os.path.join(folder(name), "exit")) as file:
            code, when = file.read().split()[:2]
            return int(code), float(when)
    except (OSError, ValueError):
        return None


def is_of_another_boot(record: Record) -> bool:
    """Return whether the machine or the container was restarted since."""
    since: int = record.get("started") or record.get("owner_started", 0)
    is_other: bool = record.get("boot_id", "") != process.boot_id()
    return is_other or 0 < since < process.first_started()


def is_running(record: Record) -> bool:
    return process.is_alive(record.get("pid", 0), record.get("started", 0), record.get("boot_id", ""))


def is_starting(record: Record) -> bool:
    """Return whether a call on this pod still downloads or launches it."""
    return record["status"] == "starting" and process.is_alive(
        record.get("owner", 0), record.get("owner_started", 0), record.get("boot_id", "")
    )


def living(record: Record) -> list[int]:
    """Return the living processes of a deployment and its launcher."""
    return process.members(_session(record), record["instance"])


def _session(record: Record) -> int:
    """Return its session, or NO_SESSION if the number may mean another: after a reboot, or with a younger leader."""
    session: int = record.get("session", NO_SESSION)
    leader = process.stat(session)
    is_younger = leader is not None and leader[2] > record.get("started", 0) > 0
    return NO_SESSION if is_younger or is_of_another_boot(record) else session


def described(record: Record) -> LiveRecord:
    """Return a record with the present state of its deployment, as the processes show it."""
    now = cast(LiveRecord, dict(record))
    if is_of_another_boot(record):
        now["state"] = "rebooted"
    elif is_running(record):
        now["state"] = "starting" if record["status"] == "starting" else "running"
    elif is_starting(record):
        now["state"] = "starting"
    else:
        now["state"] = "crashed"
    now["exit"] = exit_code(record["name"])
    now["ended_s_ago"] = ended_s_ago(record["name"])
    return now
