"""Parse the text of pods.json into checked, typed values, and write that text. This module opens no file."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn, cast, get_args

from pi.pods.gpus import Gpu, memory_label, memory_mib
from pi.pods.json_place import Place, dotted, line_of
from pi.pods.types import NAME, Deployment, Move, Owner, Pod, Span, State, Status

VERSION = 1
"""Format of pods.json that this pi writes; a file without a version has format 1."""

DEEPEST = 50
"""Maximum levels of nesting; pi's own values need seven."""


LARGEST_AMOUNT = 1e12
"""Highest price or time of pods.json."""


class NewerError(ValueError):
    """A newer pi wrote the file."""


class Misread(ValueError):
    """An invalid value: its place, and what pi expects there."""

    def __init__(self, place: Place, expected: str) -> None:
        super().__init__(f"{dotted(place)}: {expected}" if place else expected)
        self.place = place


def read(raw: bytes) -> State:
    """Return the state in the text of pods.json. The `extra` fields keep unknown keys unchanged.

    Raises ValueError with the problem and, if known, its line. Raises NewerError if a newer pi wrote the file.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: byte 0x{raw[error.start]:02x} is not UTF-8") from None
    try:
        document = json.loads(text, object_pairs_hook=_object_of, parse_constant=_no_number, parse_float=_finite)
        _check_depth(document)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    try:
        return _state(document)
    except Misread as error:
        raise ValueError(f"line {line_of(text, error.place)}: {error}") from None


def written(state: State) -> str:
    """Return the text of a state. Raises ValueError if `read` would reject it, because pods send any value."""
    document = _document(state)
    _state(document)
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def entry(model: Deployment) -> str:
    """Return a deployment on one line, as pods.json shows it under the pod's `models`."""
    return f"{json.dumps(model.name)}: {json.dumps(_deployment_document(model))}"


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"one object contains {twice!r} twice")
    return members


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _finite(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"the number {digits} is too large")
    return float(digits)


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise RecursionError
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(child, depth + 1)


def _state(document: Any) -> State:
    top = _object(document, ())
    version = top.pop("version", 1)
    if isinstance(version, int) and version > VERSION:
        raise NewerError(f"version {version}, but this pi supports only {VERSION}")
    _int(version, 1, VERSION, ("version",))
    pods = {name: _pod(name, value) for name, value in _object(top.pop("pods", {}), ("pods",)).items()}
    active = _optional_text(top.pop("active", None), ("active",))
    if active is not None and active not in pods:
        raise Misread(("active",), f"{active!r} is not one of the pods")
    return State(pods, active, top)


def _pod(name: str, value: Any) -> Pod:
    place = _named(name, ("pods", name))
    data = _object(value, place)
    models = _object(data.pop("models", {}), (*place, "models"))
    gpus = _list(data.pop("gpus", []), (*place, "gpus"))
    return Pod(
        name=name,
        ssh=_text(data.pop("ssh", None), (*place, "ssh")),
        gpus=tuple(_gpu(gpu, (*place, "gpus", index)) for index, gpu in enumerate(gpus)),
        models={key: _deployment(key, model, (*place, "models", key)) for key, model in models.items()},
        models_path=_optional_text(data.pop("modelsPath", None), (*place, "modelsPath")) or None,
        vllm_version=_optional_text(data.pop("vllmVersion", None), (*place, "vllmVersion")) or None,
        extra_venvs=_texts(data.pop("vllmBeside", {}), (*place, "vllmBeside")),
        host_key=_text(data.pop("host_key", ""), (*place, "host_key")),
        boot=_text(data.pop("boot", ""), (*place, "boot")),
        machine=_text(data.pop("machine", ""), (*place, "machine")),
        price=_amount(data.pop("price", None), "a price per hour", (*place, "price")),
        set_up_at=_amount(data.pop("set_up_at", None), "seconds since 1970", (*place, "set_up_at")),
        on_idle=_optional_text(data.pop("on_idle", None), (*place, "on_idle")) or None,
        extra=data,
    )


def _gpu(value: Any, place: Place) -> Gpu:
    data = _object(value, place)
    label = memory_mib(_text(data.pop("memory", ""), (*place, "memory")))
    mib = data.pop("memory_mib", None)
    return Gpu(
        id=_int(data.pop("id", None), 0, 999, (*place, "id")),
        name=_text(data.pop("name", None), (*place, "name")),
        memory_mib=_int(label if mib is None else mib, 0, 2**31, (*place, "memory_mib")),
        compute_capability=_capability(data.pop("compute_capability", None), (*place, "compute_capability")),
        extra=data,
    )


def _capability(value: Any, place: Place) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,2})\.([0-9])", value) if isinstance(value, str) else None
    if not match:
        raise Misread(place, 'expected a version such as "9.0"')
    return (int(match[1]), int(match[2]))


def _deployment(name: str, value: Any, place: Place) -> Deployment:
    _named(name, place)
    data = _object(value, place)
    share = data.pop("memory_share", None)
    status = _status(data.pop("status", "running"), (*place, "status"))
    return Deployment(
        name=name,
        model=_text(data.pop("model", None), (*place, "model")),
        port=_int(data.pop("port", None), 1, 65535, (*place, "port")),
        gpus=_gpu_ids(data.pop("gpu", ""), (*place, "gpu")),
        pid=_int(data.pop("pid", None), 0 if status == "starting" else 2, 2**31, (*place, "pid")),
        status=status,
        started=_int(data.pop("pid_start", 0), 0, 2**63, (*place, "pid_start")),
        boot_id=_text(data.pop("boot_id", ""), (*place, "boot_id")),
        instance=_text(data.pop("instance", ""), (*place, "instance")),
        memory_share=None if share is None else _share(share, (*place, "memory_share")),
        owner=_owner(data.pop("owner", None), (*place, "owner")),
        api=_text(data.pop("api", "chat"), (*place, "api")),
        private=_bool(data.pop("private", False), (*place, "private")),
        venv=_text(data.pop("venv", ""), (*place, "venv")),
        adapters=_names(data.pop("adapters", []), (*place, "adapters")),
        replica_of=_text(data.pop("replica_of", ""), (*place, "replica_of")),
        elsewhere=_names(data.pop("elsewhere", []), (*place, "elsewhere")),
        span=_span(data.pop("span", None), (*place, "span")),
        options=_object(data.pop("options", {}), (*place, "options")),
        move=_move(data.pop("move", None), (*place, "move")),
        extra=data,
    )


def _status(value: Any, place: Place) -> Status:
    if value not in get_args(Status):
        raise Misread(place, f"expected {' or '.join(get_args(Status))}")
    return cast("Status", value)


def _owner(value: Any, place: Place) -> Owner | None:
    if value is None:
        return None
    data = _object(value, place)
    since = data.pop("since", None)
    if not isinstance(since, int | float) or isinstance(since, bool):
        raise Misread((*place, "since"), "expected seconds since 1970")
    pid = _int(data.pop("pid", None), 2, 2**31, (*place, "pid"))
    return Owner(pid, _text(data.pop("host", None), (*place, "host")), since, data)


def _move(value: Any, place: Place) -> Move | None:
    if value is None:
        return None
    data = _object(value, place)
    to = _text(data.get("to"), (*place, "to"))
    _named(to, (*place, "to"))
    return Move(to, _bool(data.get("done", False), (*place, "done")))


def _span(value: Any, place: Place) -> Span | None:
    if value is None:
        return None
    data = _object(value, place)
    members = _names(data.get("members"), (*place, "members"))
    if len(members) < 2:
        raise Misread((*place, "members"), "expected two pods or more")
    machines = _list(data.get("machines", []), (*place, "machines"))
    return Span(
        _int(data.get("rank"), 0, len(members) - 1, (*place, "rank")),
        members,
        tuple(_text(each, (*place, "machines")) for each in machines),
        _text(data.get("group", ""), (*place, "group")),
    )


def _gpu_ids(value: Any, place: Place) -> tuple[int, ...]:
    """Return the GPU ids in "0", "0,1" or a list of numbers, which older files contain."""
    words = value if isinstance(value, list) else [word for word in _text(value, place).split(",") if word]
    return tuple(_int(_number(word), 0, 999, place) for word in words)


def _number(word: Any) -> Any:
    return int(word) if isinstance(word, str) and re.fullmatch(r" *[0-9]{1,3} *", word) else word


def _named(name: str, place: Place) -> Place:
    if not NAME.fullmatch(name):
        raise Misread(place, "this is not a valid name")
    return place


def _names(value: Any, place: Place) -> tuple[str, ...]:
    names = [_text(name, place) for name in _list(value, place)]
    return tuple(name for name in names if _named(name, place))


def _object(value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Misread(place, "expected an object {...}")
    return dict(value)


def _list(value: Any, place: Place) -> list[Any]:
    if not isinstance(value, list):
        raise Misread(place, "expected a list")
    return value


def _text(value: Any, place: Place) -> str:
    if not isinstance(value, str):
        raise Misread(place, "expected text")
    if not value.isprintable():
        raise Misread(place, "the text contains a line break or another unprintable character")
    return value


def _texts(value: Any, place: Place) -> dict[str, str]:
    return {_text(key, place): _text(text, (*place, key)) for key, text in _object(value, place).items()}


def _optional_text(value: Any, place: Place) -> str | None:
    return None if value is None else _text(value, place)


def _bool(value: Any, place: Place) -> bool:
    if not isinstance(value, bool):
        raise Misread(place, "expected true or false")
    return value


def _amount(value: Any, what: str, place: Place) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LARGEST_AMOUNT:
        raise Misread(place, f"expected {what}")
    return value


def _share(value: Any, place: Place) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise Misread(place, "expected a number from 0 to 1")
    return float(value)


def _int(value: Any, low: int, high: int, place: Place) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Misread(place, f"expected a whole number from {low} to {high}")
    return value


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
    if pod.extra_venvs:
        document["vllmBeside"] = pod.extra_venvs
    if pod.host_key:
        document["host_key"] = pod.host_key
    if pod.boot:
        document["boot"] = pod.boot
    if pod.machine:
        document["machine"] = pod.machine
    if pod.price is not None:
        document["price"] = pod.price
    if pod.set_up_at is not None:
        document["set_up_at"] = pod.set_up_at
    if pod.on_idle:
        document["on_idle"] = pod.on_idle
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
    return {**document, **gpu.extra}


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
        owner = model.owner
        document["owner"] = {"pid": owner.pid, "host": owner.host, "since": owner.since, **owner.extra}
    if model.api != "chat":
        document["api"] = model.api
    if model.private:
        document["private"] = True
    if model.venv:
        document["venv"] = model.venv
    if model.adapters:
        document["adapters"] = list(model.adapters)
    if model.replica_of:
        document["replica_of"] = model.replica_of
    if model.elsewhere:
        document["elsewhere"] = list(model.elsewhere)
    if span := model.span:
        pods = {"members": list(span.members), "machines": list(span.machines)}
        document["span"] = {"rank": span.rank, **pods, "group": span.group}
    if model.options:
        document["options"] = model.options
    if model.move:
        document["move"] = {"to": model.move.to, "done": model.move.is_done}
    return {**document, **model.extra}
