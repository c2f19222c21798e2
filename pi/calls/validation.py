"""Checks of what a pod sends against the TypedDicts of `pi.on_pod.shapes`."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from pi.errors import UnprovenError
from pi.pods.types import NAME
from pi.text import one_line

Shape = TypeVar("Shape")

DEEPEST = 50
"""Levels of nesting in a value of any type; a model's config.json has about five."""

LONGEST = 4096
"""Characters of a text that goes into pods.json; Linux allows paths of so many bytes."""

INT_LIMITS = (-(2**63), 2**63)

PID_LIMITS = (0, 2**31)

MIB_LIMITS = (0, 2**40)

SECONDS_LIMITS = (0, 10**9)
"""About 31 years."""

LIMITS: dict[str, tuple[float, float]] = {
    "port": (1, 65535),
    "ports": (0, 65535),
    "side_doors": (0, 65535),
    "gpus": (0, 999),
    "pid": PID_LIMITS,
    "left": PID_LIMITS,
    "pids": PID_LIMITS,
    "started": (0, 2**63),
    "memory_share": (0, 1),
    "context": (0, 2**40),
    "mib": MIB_LIMITS,
    "used_mib": MIB_LIMITS,
    "index": (0, 999),
    "kv_share": (0, 1),
    "held_mib": MIB_LIMITS,
    "memory_mib": MIB_LIMITS,
    "cpus": (1, 2**20),
    "disk_free_bytes": (0, 2**63),
    "free_bytes": (0, 2**63),
    "bytes_per_s": (0, 2**63),
    "time_s": (0, 2**40),
    "weights_bytes": (0, 2**63),
    "sizes": (0, 2**63),
    "rank": (0, 10**6),
    "total": (0, 2**63),
    "unfinished_bytes": (0, 2**63),
    "used_s_ago": SECONDS_LIMITS,
    "asked_s_ago": SECONDS_LIMITS,
    "ended_s_ago": SECONDS_LIMITS,
    "idle_s": SECONDS_LIMITS,
    "hung_s": SECONDS_LIMITS,
    "restarts": (0, 10**6),
    "up_s": SECONDS_LIMITS,
    "ready_after_s": SECONDS_LIMITS,
    "forced_after_s": SECONDS_LIMITS,
}
"""Smallest and largest value of the numbers below a key; those that pods.json holds have its limits."""

SHORT_TEXTS = {
    "model",
    "instance",
    "boot",
    "boot_id",
    "machine",
    "venv",
    "api",
    "vllm_version",
    "code",
    "base_models",
    "gguf",
    "what",
    "detail",
    "extra_venvs",
    "beside",
    "models_path",
    "abandoned",
}
"""Keys of texts that pods.json holds or messages show: printable characters alone."""


class WrongAnswerError(UnprovenError):
    """The pod sent something that pi's own program there never sends (exit code 1)."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            "wrong-answer",
            f"the pod sent a wrong answer: {problem}",
            "check the records in ~/.pi/run on the pod; pi list shows what runs there",
        )


def checked(shape: type[Shape], value: object, place: str = "") -> Shape:
    """Return the value as that type: a TypedDict, or a list, dict, Optional or Literal of such.

    `place` names the value in messages. Raises WrongAnswerError naming the field that has another type or size.
    """
    _check(shape, value, place, place.rpartition(".")[2])
    return cast("Shape", value)


def _check(shape: Any, value: Any, place: str, key: str) -> None:
    """Check a value; `key` is the nearest key around it, which decides its limits."""
    origin = get_origin(shape)
    if is_typeddict(shape):
        _check_object(shape, value, place)
    elif origin is Union:
        if value is not None:
            _check(next(part for part in get_args(shape) if part is not type(None)), value, place, key)
    elif origin is Literal:
        if value not in get_args(shape):
            _reject(place, f"is not one of {', '.join(get_args(shape))}")
    elif origin is list:
        for index, part in enumerate(_instance(list, value, place, "a list")):
            _check(get_args(shape)[0], part, f"{place}.{index}", key)
    elif origin is dict:
        for name, part in _instance(dict, value, place, "an object").items():
            _check(get_args(shape)[1], part, f"{place}.{one_line(name, 60)}", key)
    elif shape is bool:
        _instance(bool, value, place, "true or false")
    elif shape in (int, float):
        _check_number(shape, value, place, key)
    elif shape is str:
        _check_text(value, place, key)
    else:
        _check_depth(value, place)


@cache
def fields(shape: type) -> dict[str, Any]:
    """Types of the keys of a TypedDict."""
    return get_type_hints(shape)


def _check_object(shape: Any, value: Any, place: str) -> None:
    present = _instance(dict, value, place, "an object")
    for key, kind in fields(shape).items():
        below = f"{place}.{key}" if place else key
        if key in present:
            _check(kind, present[key], below, key)
        elif key in shape.__required_keys__:
            _reject(below, "is missing")


def _check_number(shape: type, value: Any, place: str, key: str) -> None:
    low, high = LIMITS.get(key, INT_LIMITS)
    kinds = (int,) if shape is int else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool):
        _reject(place, "is not a whole number" if shape is int else "is not a number")
    if not low <= value <= high:
        _reject(place, f"is not between {low} and {high}")


def _check_text(value: Any, place: str, key: str) -> None:
    text = _instance(str, value, place, "a text")
    if key == "name" and not NAME.fullmatch(text):
        _reject(place, "is not the name of a model")
    if key in SHORT_TEXTS and (not text.isprintable() or len(text) > LONGEST):
        _reject(place, f"is not one line of at most {LONGEST} printable characters")


def _check_depth(value: Any, place: str, depth: int = 0) -> None:
    if depth > DEEPEST:
        _reject(place, "is nested too deeply")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(part, place, depth + 1)


def _instance(kind: type[Shape], value: Any, place: str, expected: str) -> Shape:
    if not isinstance(value, kind):
        _reject(place, f"is not {expected}")
    return value


def _reject(place: str, problem: str) -> NoReturn:
    raise WrongAnswerError(f"{one_line(place, 200) or 'it'} {problem}")
