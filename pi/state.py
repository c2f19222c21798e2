"""pods.json: the pods, their GPUs and deployments as last known. The only reader and writer of that file."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from pi.errors import BusyError, InputError, RemoteError
from pi.gpus import Gpu, memory_label, memory_mib

VERSION = 1
"""Format of pods.json that this pi writes; a file without a version is read as 1."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What a pod or deployment may be called (matched whole); it becomes a file name on the pod."""


@dataclass(frozen=True)
class Owner:
    """The pi that starts a model: its process, the machine it runs on, and since when (seconds since 1970)."""

    pid: int
    host: str
    since: float

    @classmethod
    def this(cls) -> Owner:
        return cls(os.getpid(), socket.gethostname(), time.time())

    def is_gone(self) -> bool:
        """Whether it certainly no longer runs; of another machine's processes nothing is known."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


@dataclass(frozen=True)
class Deployment:
    """A model started under a name. `pid` is vLLM's API server on the pod; with `started` (clock ticks since
    boot, /proc/PID/stat field 22) and `boot_id` it names one process and no other. In status `starting` it is a
    reservation: `owner` starts it, and the pid is 0 until the pod has told it."""

    name: str
    model: str
    port: int
    gpus: tuple[int, ...]
    pid: int
    status: str = "running"
    started: int = 0
    boot_id: str = ""
    instance: str = ""
    memory_share: float | None = None
    """Share of each GPU's memory it was given, 0 to 1; None when its own arguments decide."""
    owner: Owner | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pod:
    """A machine that pi knows: its ssh string as the user gave it (or `local`) and what setup found there."""

    name: str
    ssh: str
    gpus: tuple[Gpu, ...] = ()
    models: dict[str, Deployment] = field(default_factory=dict)
    models_path: str | None = None
    vllm_version: str | None = None
    """Version of vLLM in the pod's `~/venv`, such as "0.32.0" or "0.32.0+cpu"."""
    beside: dict[str, str] = field(default_factory=dict)
    """Versions of the vLLMs in venvs beside it, by the name of their folder."""
    extra: dict[str, Any] = field(default_factory=dict)

    def with_model(self, deployment: Deployment) -> Pod:
        return replace(self, models={**self.models, deployment.name: deployment})

    def without_models(self, names: set[str]) -> Pod:
        return replace(self, models={name: model for name, model in self.models.items() if name not in names})


@dataclass(frozen=True)
class State:
    """All that pods.json says. Unknown keys of the file are kept in the `extra` fields."""

    pods: dict[str, Pod] = field(default_factory=dict)
    active: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def pod(self, name: str | None = None) -> Pod:
        """The named pod, or the active one. Raises InputError saying what to do where there is none."""
        if name is None:
            if not self.pods:
                raise InputError("no pods yet", 'add one: pi pods setup NAME "ssh root@HOST"')
            if self.active is None:
                raise InputError(f"no active pod; you have {', '.join(self.pods)}", "choose one: pi pods active NAME")
            return self.pods[self.active]
        if name not in self.pods:
            known = f"you have {', '.join(self.pods)}" if self.pods else "there are none yet"
            raise InputError(f"no pod {name!r}", f"{known}; see: pi pods")
        return self.pods[name]

    def with_pod(self, pod: Pod) -> State:
        return replace(self, pods={**self.pods, pod.name: pod})

    def without_pod(self, name: str) -> State:
        pods = {key: pod for key, pod in self.pods.items() if key != name}
        return replace(self, pods=pods, active=None if self.active == name else self.active)


def config_dir() -> Path:
    """`PI_CONFIG_DIR`, or `~/.pi`."""
    return Path(os.environ.get("PI_CONFIG_DIR") or "~/.pi").expanduser().absolute()


def path() -> Path:
    return config_dir() / "pods.json"


def load() -> State:
    """Read pods.json; an absent or empty file is an empty state. Raises InputError naming what is wrong in it."""
    file = path()
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    if not raw.strip():
        return State()
    try:
        return _state(json.loads(raw.decode()))
    except (ValueError, RecursionError, OverflowError) as error:
        backup = file.with_suffix(".json.bak")
        way_on = f"the last good copy is {backup}" if backup.exists() else "mend it, or move it away to start anew"
        raise InputError(f"{file} cannot be used: {_words(error)}", way_on) from None


def change(edit: Callable[[State], State]) -> State:
    """Read, edit and write pods.json as one step that no other pi can interrupt. Returns the new state.

    The write is whole or not at all: a new file, flushed to disk, takes the old one's place, and the old
    one is kept as pods.json.bak. What could not be read again is not written (RemoteError): a pod may say anything.
    """
    folder = config_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / "pods.json.lock"):
            before = load()
            after = edit(before)
            if after != before or not path().exists():
                document = _document(after)
                _check_readable(document)
                _write(path().resolve(), json.dumps(document, indent=2) + "\n")
            return after
    except OSError as error:
        raise InputError(f"cannot write {error.filename or folder}: {error.strerror}") from None


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    patience_s = float(os.environ.get("PI_LOCK_TIMEOUT") or 10)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        _take(file, lock, patience_s)
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _take(file: IO[str], lock: Path, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = file.read() or "another pi"
                raise BusyError(
                    f"{lock} is held by {holder}", "wait for it to end, or raise PI_LOCK_TIMEOUT (seconds)"
                ) from None
            time.sleep(0.02)


def _write(file: Path, text: str) -> None:
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        if file.exists():
            backup = file.with_suffix(".json.bak")
            backup.unlink(missing_ok=True)
            os.link(file, backup)
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _words(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}: {error.msg}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)


# --- pods.json <-> typed values


def _check_readable(document: dict[str, Any]) -> None:
    try:
        _state(document)
    except ValueError as error:
        raise RemoteError(f"not written down, for it could not be read again: {error}") from None


def _state(document: Any) -> State:
    top = _object(document, "the file")
    version = top.pop("version", 1)
    if not isinstance(version, int) or version > VERSION:
        raise InputError(f"{path()} has version {version}, this pi knows {VERSION}", "upgrade pi")
    pods = {name: _pod(name, value) for name, value in _object(top.pop("pods", {}), "pods").items()}
    active = _optional_text(top.pop("active", None), "active")
    if active is not None and active not in pods:
        raise ValueError(f"active names {active!r}, which is not among the pods")
    return State(pods, active, top)


def _pod(name: str, value: Any) -> Pod:
    where = f"pod {name!r}"
    _check_name(name, where)
    data = _object(value, where)
    models = _object(data.pop("models", {}), f"{where}, models")
    return Pod(
        name=name,
        ssh=_text(data.pop("ssh", None), f"{where}, ssh"),
        gpus=tuple(_gpu(gpu, where) for gpu in _list(data.pop("gpus", []), f"{where}, gpus")),
        models={key: _deployment(key, model, where) for key, model in models.items()},
        models_path=_optional_text(data.pop("modelsPath", None), f"{where}, modelsPath"),
        vllm_version=_optional_text(data.pop("vllmVersion", None), f"{where}, vllmVersion"),
        beside={
            _text(folder, f"{where}, vllmBeside"): _text(version, f"{where}, vllmBeside")
            for folder, version in _object(data.pop("vllmBeside", {}), f"{where}, vllmBeside").items()
        },
        extra=data,
    )


def _gpu(value: Any, where: str) -> Gpu:
    data = _object(value, f"{where}, gpus")
    label = _text(data.get("memory", ""), f"{where}, a GPU's memory")
    mib = data.get("memory_mib")
    return Gpu(
        id=_int(data.get("id"), 0, 999, f"{where}, a GPU's id"),
        name=_text(data.get("name"), f"{where}, a GPU's name"),
        memory_mib=memory_mib(label) if mib is None else _int(mib, 0, 2**31, f"{where}, a GPU's memory_mib"),
        compute_capability=_capability(data.get("compute_capability")),
    )


def _capability(value: Any) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d{1,2})\.(\d)", value) if isinstance(value, str) else None
    return (int(found[1]), int(found[2])) if found else None


def _deployment(name: str, value: Any, where: str) -> Deployment:
    where = f"{where}, model {name!r}"
    _check_name(name, where)
    data = _object(value, where)
    share = data.pop("memory_share", None)
    status = _text(data.pop("status", "running"), f"{where}, status")
    return Deployment(
        name=name,
        model=_text(data.pop("model", None), f"{where}, model"),
        port=_int(data.pop("port", None), 1, 65535, f"{where}, port"),
        gpus=_gpu_ids(data.pop("gpu", ""), f"{where}, gpu"),
        pid=_int(data.pop("pid", None), 0 if status == "starting" else 2, 2**31, f"{where}, pid"),
        status=status,
        started=_int(data.pop("pid_start", 0), 0, 2**63, f"{where}, pid_start"),
        boot_id=_text(data.pop("boot_id", ""), f"{where}, boot_id"),
        instance=_text(data.pop("instance", ""), f"{where}, instance"),
        memory_share=None if share is None else _share(share, f"{where}, memory_share"),
        owner=_owner(data.pop("owner", None), f"{where}, owner"),
        extra=data,
    )


def _owner(value: Any, where: str) -> Owner | None:
    if value is None:
        return None
    data = _object(value, where)
    since = data.get("since")
    if not isinstance(since, int | float) or isinstance(since, bool):
        raise ValueError(f"{where}, since: seconds since 1970 are expected")
    return Owner(_int(data.get("pid"), 2, 2**31, f"{where}, pid"), _text(data.get("host"), f"{where}, host"), since)


def _gpu_ids(value: Any, where: str) -> tuple[int, ...]:
    """GPU ids of "0", "0,1" or a list of numbers (as the TypeScript pi wrote them)."""
    words = value if isinstance(value, list) else _text(value, where).split(",")
    return tuple(
        _int(int(word) if str(word).strip().isdigit() else word, 0, 999, where) for word in words if word != ""
    )


def _document(state: State) -> dict[str, Any]:
    pods = {name: _pod_document(pod) for name, pod in state.pods.items()}
    return {"version": VERSION, "pods": pods, "active": state.active, **state.extra}


def _pod_document(pod: Pod) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ssh": pod.ssh,
        "gpus": [_gpu_document(gpu) for gpu in pod.gpus],
        "models": {name: _deployment_document(model) for name, model in pod.models.items()},
    }
    if pod.models_path:
        document["modelsPath"] = pod.models_path
    if pod.vllm_version:
        document["vllmVersion"] = pod.vllm_version
    if pod.beside:
        document["vllmBeside"] = pod.beside
    return {**document, **pod.extra}


def _gpu_document(gpu: Gpu) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": gpu.id,
        "name": gpu.name,
        "memory": memory_label(gpu.memory_mib),
        "memory_mib": gpu.memory_mib,
    }
    if gpu.compute_capability:
        document["compute_capability"] = ".".join(map(str, gpu.compute_capability))
    return document


def _deployment_document(model: Deployment) -> dict[str, Any]:
    document: dict[str, Any] = {
        "model": model.model,
        "port": model.port,
        "gpu": ",".join(map(str, model.gpus)),
        "pid": model.pid,
        "status": model.status,
        "pid_start": model.started,
        "boot_id": model.boot_id,
        "instance": model.instance,
    }
    if model.memory_share is not None:
        document["memory_share"] = model.memory_share
    if model.owner:
        document["owner"] = asdict(model.owner)
    return {**document, **model.extra}


def check_name(name: str, what: str) -> str:
    """The name itself. Raises InputError where it may not name a pod or a deployment."""
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a {what}",
            "use letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit",
        )
    return name


def _check_name(name: str, where: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"{where}: not a usable name")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: an object {{...}} is expected")
    return dict(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: a list is expected")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: text is expected")
    if not value.isprintable():
        raise ValueError(f"{where}: it holds a line break or another character that cannot be printed")
    return value


def _optional_text(value: Any, where: str) -> str | None:
    return None if value is None else _text(value, where)


def _share(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{where}: a number from 0 to 1 is expected")
    return float(value)


def _int(value: Any, low: int, high: int, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{where}: a whole number from {low} to {high} is expected")
    return value
