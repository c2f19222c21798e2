"""Records of the pod's deployments, one private folder each under ~/.pi/run.

A folder contains `record.json` (name, model, port, GPUs, process identity), `launch.sh`, `key`, `pid` and, after
the server ended, `exit`. pi can restore a lost pods.json from them. The guard touches `asked` for requests.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple, Union, cast

from pi.on_pod import process, reading, record_check, writing
from pi.on_pod.record_shapes import LiveRecord, Record
from pi.on_pod.wire import PodError

if TYPE_CHECKING:
    from pi.on_pod.events import ProcessDetail

HOME = os.path.expanduser("~/.pi")

RUN = os.path.join(HOME, "run")

NO_SESSION = -1

STOPPED = "stopped"
"""File in a deployment's folder: who stops it. It is not a field of the record, which the starting call writes too."""

ASKED = "asked"
"""File in a deployment's folder that its guard touches for a request; in HOME, the latest of those that have ended."""

LOGS = os.path.expanduser("~/.vllm_logs")


def folder(name: str) -> str:
    return os.path.join(RUN, name)


def log_path(name: str) -> str:
    return os.path.join(LOGS, name + ".log")


def write(name: str, file_name: str, text: str) -> None:
    """Write a private file into a deployment's folder, whole or not at all."""
    os.makedirs(folder(name), mode=0o700, exist_ok=True)
    if os.lstat(folder(name)).st_uid != os.stat(HOME).st_uid:
        raise PodError("damaged", "~/.pi/run/%s on the pod belongs to another user" % name, name="run/" + name)
    writing.replace(os.path.join(folder(name), file_name), text)


def key(name: str) -> str:
    """Return the key of a deployment; empty if it has none."""
    return reading.text(os.path.join(folder(name), "key"))


def save(record: Record) -> None:
    write(record["name"], "record.json", json.dumps(dict(record, version=record_check.VERSION)))


class Damaged(NamedTuple):
    """A record that this pi cannot use: why, and the fields that are valid by themselves."""

    name: str
    problem: str
    known: Dict[str, Any]


def read(name: str) -> Union[Record, Damaged, None]:
    """Return a deployment's record, or what is wrong with it. Only a record that does not exist is None."""
    path = os.path.join(folder(name), "record.json")
    try:
        owner = os.lstat(path).st_uid
        is_own = owner == os.stat(HOME).st_uid
        value = reading.document(path) if is_own else None
    except FileNotFoundError:
        return None
    except OSError as error:
        return Damaged(name, (error.strerror or "unknown error").lower(), {})
    except reading.ReadError as error:
        return None if error.is_missing and not os.path.islink(path) else Damaged(name, str(error), {})
    if not is_own:
        return Damaged(name, "it belongs to another user (uid %d)" % owner, {})
    problem = record_check.problem(value, name)
    return Damaged(name, problem, record_check.valid_fields(value)) if problem else _restarted(cast(Record, value))


def _restarted(record: Record) -> Record:
    """Return a record with the server that its launcher started last, and how often it has started it again."""
    words = reading.beginning(os.path.join(folder(record["name"]), "restarts"), 100).split()
    if len(words) != 4 or not all(word.isdecimal() for word in words):
        return record
    count, _, pid, started = map(int, words)
    now = cast(Record, dict(record, restarts=count))
    if pid:
        now["pid"], now["started"] = pid, started
    return now


def is_restarting(record: Record) -> bool:
    """Return whether the server has ended and its launcher will start it again."""
    return has_launcher(record) and bool(record.get("restarts") or options(record["name"]).get("restart"))


def has_launcher(record: Record) -> bool:
    """Return whether the launcher works, and has not noted yet how its server ended."""
    leader = process.stat(session_of(record))
    return leader is not None and leader[0] not in "ZX" and exit_code(record["name"]) is None


def is_idle(record: Record) -> bool:
    """Return whether the launcher ended a server that nobody used."""
    return os.path.exists(os.path.join(folder(record["name"]), "idle"))


def hung(record: Record) -> Optional[Tuple[float, List[ProcessDetail]]]:
    """Return for how many seconds a server hangs by its watchdog, and what its processes did; None if it does not."""
    try:
        found = reading.document(os.path.join(folder(record["name"]), "hung"))
        since, processes = float(found["since"]), [_detail(each) for each in found["processes"]]
    except (reading.ReadError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return max(0.0, process.uptime_s() - since), processes


def link(name: str) -> str:
    """Return which peer of a rank was lost, so that its launcher ended it; empty if none was."""
    try:
        return str(reading.document(os.path.join(folder(name), "link"))["text"])[:400]
    except (reading.ReadError, KeyError, TypeError):
        return ""


def _detail(found: Dict[str, Any]) -> ProcessDetail:
    program, state, stack = (str(found[key]) for key in ("program", "state", "stack"))
    return {"pid": int(found["pid"]), "program": program, "state": state, "stack": stack}


def probes(name: str) -> Tuple[int, int]:
    """Return the prompt and the generated tokens of the watchdog's requests, which do not count as use."""
    words = reading.beginning(os.path.join(folder(name), "probes"), 100).split()
    if len(words) != 3 or not all(word.isdecimal() for word in words):
        return 0, 0
    return int(words[1]), int(words[2])


def pod_stop(name: str) -> str:
    """Return what became of the stop of the pod after this model ended for lack of use; empty without one."""
    return reading.beginning(os.path.join(folder(name), "pod_stop"), 1000)


def load(name: str) -> Optional[Record]:
    """Return a deployment's record, or None if the pod has no valid one."""
    record = read(name)
    return None if isinstance(record, Damaged) else record


def load_all() -> list[Record]:
    """Return every valid record."""
    return read_all()[0]


def read_all() -> tuple[list[Record], list[Damaged]]:
    """Return the valid records, and those that this pi cannot use."""
    found = [record for record in map(read, _names()) if record]
    damaged = [record for record in found if isinstance(record, Damaged)]
    return [record for record in found if not isinstance(record, Damaged)], damaged


def _names() -> list[str]:
    try:
        names = os.listdir(RUN)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PodError("damaged", "cannot read ~/.pi/run on the pod: %s" % error.strerror, name="run") from None
    return sorted(filter(record_check.NAME.fullmatch, names))


def forget(name: str) -> None:
    """Delete the folder of a deployment, but not the time of its last request. Raises PodError if it stays."""
    _keep_asked(name)
    writing.remove(folder(name))
    if os.path.lexists(folder(name)):
        raise PodError("damaged", "cannot delete ~/.pi/run/%s on the pod" % name, name="run/" + name)


def forget_server(name: str) -> None:
    """Delete what the launcher wrote about a server that ended."""
    for file_name in ("pid", "exit"):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder(name), file_name))


def asked_s_ago(name: str) -> Optional[float]:
    """Return the age of the last request that a deployment's guard admitted, or None if it admitted none."""
    return _age(os.path.join(folder(name), ASKED))


def _age(path: str) -> Optional[float]:
    try:
        return max(0.0, time.time() - os.stat(path).st_mtime)
    except OSError:
        return None


def pod_asked_s_ago() -> Optional[float]:
    """Return the age of the last request that a guard of this pod admitted, also of models that have ended."""
    ages = [_age(os.path.join(HOME, ASKED)), *map(asked_s_ago, _names())]
    return min((age for age in ages if age is not None), default=None)


def _keep_asked(name: str) -> None:
    """Set the time of ~/.pi/asked to a deployment's last request, if that is later."""
    age, kept = asked_s_ago(name), _age(os.path.join(HOME, ASKED))
    if age is not None and (kept is None or age < kept):
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(os.path.join(HOME, ASKED), flags, 0o600)
            try:
                os.utime(descriptor, (time.time() - age,) * 2)
            finally:
                os.close(descriptor)


def options(name: str) -> Dict[str, Any]:
    """Return the options that a deployment was started with; empty if an older pi started it."""
    try:
        found = reading.document(os.path.join(folder(name), "options.json"))
    except reading.ReadError:
        return {}
    return found if isinstance(found, dict) else {}


def exit_code(name: str) -> Optional[int]:
    """Return the exit code of the server, or None if it runs or its launcher was killed."""
    ended = _exit(name)
    return ended[0] if ended else None


def ended_s_ago(name: str) -> Optional[float]:
    """Return the seconds since the server ended, or None as `exit_code` does."""
    ended = _exit(name)
    return max(0.0, process.uptime_s() - ended[1]) if ended else None


def stopper(name: str) -> Optional[str]:
    """Return who stopped a deployment, or None if nobody did."""
    path = os.path.join(folder(name), STOPPED)
    return (reading.beginning(path, 200).strip() or "another pi") if os.path.lexists(path) else None


def _exit(name: str) -> Optional[tuple[int, float]]:
    """Return exit code and uptime at the end, as the launcher wrote them."""
    try:
        code, when = reading.text(os.path.join(folder(name), "exit"), 100).split()[:2]
        return int(code), float(when)
    except ValueError:
        return None


def is_of_another_boot(record: Record) -> bool:
    """Return whether the machine or the container was restarted since."""
    since: int = record.get("started") or record.get("owner_started", 0)
    is_other: bool = record.get("boot_id", "") != process.boot_id()
    return is_other or 0 < since < process.first_started()


def is_endpoint(record: Record) -> bool:
    """Return whether a record is that of a HAProxy in front of replicas."""
    return "replicas" in record


def is_running(record: Record) -> bool:
    return process.is_alive(record.get("pid", 0), record.get("started", 0), record.get("boot_id", ""))


def is_starting(record: Record) -> bool:
    """Return whether a call on this pod still downloads or launches it."""
    return record["status"] == "starting" and process.is_alive(
        record.get("owner", 0), record.get("owner_started", 0), record.get("boot_id", "")
    )


def living(record: Record, among: Optional[list[process.Living]] = None) -> list[int]:
    """Return the living processes of a deployment and its launcher; `among` is an earlier look at all processes."""
    return process.members(session_of(record), record["instance"], among)


def session_of(record: Record) -> int:
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
    elif is_restarting(record):
        now["state"], now["phase"] = "starting", "restarting"
    else:
        now["state"] = "idle" if is_idle(record) else "crashed"
    now["exit"] = exit_code(record["name"])
    now["ended_s_ago"] = ended_s_ago(record["name"])
    return now
