"""Check the content of a record.json: a newer pi, another program or a damaged disk may have written it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Dict, Literal, Optional, Tuple, Union, get_args, get_origin, get_type_hints

from pi.on_pod.record_shapes import Record

VERSION = 1
"""Version of the records that this pi writes; a record without one has version 1."""

REQUIRED = ("name", "model", "port", "gpus", "status", "instance")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""The name of a pod or deployment (use fullmatch); it becomes a file name on the pod."""

ELSEWHERE = re.compile(NAME.pattern + r" [0-9a-f.:]{2,45} [1-9][0-9]{0,4} [1-9][0-9]?")
"""A pod with replicas of a model: its name, private address and port there, and how many they are."""

INSTANCE = re.compile(r"[0-9A-Za-z_-]{4,64}")
"""The id of a start (use fullmatch); pi makes 16 hexadecimal digits."""

LONGEST = 4096
"""Characters of a text; Linux allows paths of so many bytes."""

MOST = 1000
"""Elements of a list."""

LIMITS: Dict[str, Tuple[float, float]] = {
    "version": (1, VERSION),
    "port": (1, 65535),
    "side_doors": (0, 65535),
    "gpus": (0, 999),
    "pid": (0, 2**31),
    "owner": (0, 2**31),
    "session": (2, 2**31),
    "memory_share": (0, 1),
    "rank": (0, 99),
    "context": (0, 2**40),
}
"""Smallest and largest value of the numbers below a key; 0 would be the session of all kernel threads."""

OTHER_LIMITS = (0, 2**62)


def problem(value: Any, name: str) -> Optional[str]:
    """Return why a value is not the record of this deployment, such as "port is missing", or None if it is."""
    if not isinstance(value, dict):
        return "it is not a JSON object"
    version = value.get("version", VERSION)
    if _fits(int, version, "", (1, 2**31)) and version > VERSION:
        return "a newer pi wrote it (version %d; this pi knows %d)" % (version, VERSION)
    known = valid_fields(value)
    for key in _kinds():
        if key not in known and (key in value or key in REQUIRED):
            return "%s is %s" % (key, "invalid" if key in value else "missing")
    return None if value["name"] == name else "it is the record of %s" % value["name"]


def valid_fields(value: Any) -> Dict[str, Any]:
    """Return the fields of a record that have a valid value, each by itself."""
    if not isinstance(value, dict):
        return {}
    kinds = _kinds()
    return {key: part for key, part in value.items() if key in kinds and _fits(kinds[key], part, key)}


@lru_cache(maxsize=None)
def _kinds() -> Dict[str, Any]:
    return get_type_hints(Record)


def _fits(kind: Any, value: Any, key: str, limits: Optional[Tuple[float, float]] = None) -> bool:
    origin = get_origin(kind)
    if origin is Union:
        return value is None or _fits(get_args(kind)[0], value, key)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if origin is list:
        [part] = get_args(kind)
        return isinstance(value, list) and len(value) <= MOST and all(_fits(part, each, key) for each in value)
    if kind is bool:
        return isinstance(value, bool)
    if kind is str:
        return isinstance(value, str) and _is_text(value, key)
    low, high = limits or LIMITS.get(key, OTHER_LIMITS)
    is_number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    return is_number and low <= value <= high


def _is_text(value: str, key: str) -> bool:
    shapes = {"name": NAME, "replica_of": NAME, "replicas": NAME, "instance": INSTANCE, "members": NAME}
    shapes["elsewhere"] = ELSEWHERE
    if key in shapes:
        return bool(shapes[key].fullmatch(value))
    return len(value) <= LONGEST and value.isprintable()
