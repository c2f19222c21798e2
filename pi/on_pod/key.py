"""`key` on the pod: the named keys, whose SHA-256 the guard of each server reads (`pi_guard.py`), and their counts."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import Any, Dict, Iterator, List, Tuple

from pi.on_pod import audit, balancer, lock, reading, records, writing
from pi.on_pod.key_shapes import AddRequest, Key, KeysAnswer, ListRequest, RevokeRequest
from pi.on_pod.pace import paced
from pi.on_pod.wire import PodError, Wire

EFFECTIVE_S = 0.6
"""Time after which every guard has read a change."""

OLDEST_S = 1e9
"""A last request cannot be older; a clock that was wrong then says so."""

MOST = 1000
"""Named keys of a pod; the guard reads a file of limited size."""


@audit.logged("key add")
def add(wire: Wire, request: AddRequest) -> KeysAnswer:
    """Add a key. Return when the servers accept it. Raises PodError if the name has one."""
    with _locked():
        named = _named()
        if any(each["name"] == request["name"] for each in named):
            raise PodError("key_taken", "the pod already has a key named %s" % request["name"])
        if len(named) >= MOST:
            raise PodError("key_taken", "the pod already has %d named keys" % MOST)
        added = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        _write("keys.json", {"keys": [*named, {"name": request["name"], "sha256": request["sha256"], "added": added}]})
    return _effective()


@audit.logged("key revoke")
def revoke(wire: Wire, request: RevokeRequest) -> KeysAnswer:
    """Remove a key. Return when the servers refuse it. Raises PodError if there is none of that name."""
    with _locked():
        named = _named()
        kept = [each for each in named if each["name"] != request["name"]]
        if len(kept) == len(named):
            names = ", ".join(each["name"] for each in named) or "none"
            raise PodError("unknown_key", "the pod has no key named %s; it has %s" % (request["name"], names))
        _write("keys.json", {"keys": kept})
        known = {"", *(each["sha256"] for each in kept)}
        _write("counts.json", {key: count for key, count in _counts().items() if key in known})
    return _effective()


def listed(wire: Wire, request: ListRequest) -> KeysAnswer:
    """Return the keys of this pod with their requests."""
    return _answer()


def _effective() -> KeysAnswer:
    balancer.learn_keys()
    if records.load_all():
        time.sleep(paced(EFFECTIVE_S))
    return _answer()


def _answer() -> KeysAnswer:
    return {"keys": counted(), "deaf": [record["name"] for record in records.load_all() if is_deaf(record["name"])]}


def counted() -> List[Key]:
    """Return the keys of this pod with their requests. Raises PodError if the file of named keys is damaged."""
    counts = _counts()
    named = [_key(each["name"], each["added"], counts.get(each["sha256"])) for each in _named()]
    return [_key(None, None, counts.get("")), *named]


def _key(name: Any, added: Any, counted: Any) -> Key:
    requests, last = counted or (0, None)
    ago = None if last is None else min(max(0.0, time.time() - last), OLDEST_S)
    return {"name": name, "added": added, "requests": requests, "used_s_ago": ago}


def is_deaf(name: str) -> bool:
    """Return whether the guard of a model is older than named keys. HAProxy learns them from pi."""
    record = records.load(name)
    if record is not None and records.is_endpoint(record):
        return False
    return "PI_KEYS=" not in reading.text(os.path.join(records.folder(name), "launch.sh"))


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Hold the lock of the files; the guards hold it for moments, to add to the counts."""
    os.makedirs(os.path.join(records.HOME, "keys"), mode=0o700, exist_ok=True)
    with lock.opened("keys/lock") as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _named() -> List[Dict[str, str]]:
    """Return name, sha256 and added of each named key. Raises PodError for a damaged file."""
    try:
        found = reading.document(_path("keys.json"))
        return [{part: str(each[part]) for part in ("name", "sha256", "added")} for each in found["keys"]]
    except reading.ReadError as error:
        if error.is_missing:
            return []
        problem = str(error)
    except (KeyError, TypeError):
        problem = "it is not a list of keys"
    text = "cannot read the pod's named keys (~/.pi/keys/keys.json): %s" % problem
    raise PodError("damaged", text, name="keys/keys.json")


def _counts() -> Dict[str, Tuple[int, int]]:
    """Return the requests and the time of the last one by key, as the guards count them; {} for a damaged file."""
    try:
        found = reading.document(_path("counts.json"))
        return {str(key): (int(count), int(last)) for key, (count, last) in found.items()}
    except (reading.ReadError, AttributeError, TypeError, ValueError):
        return {}


def _write(name: str, value: object) -> None:
    """Replace a private file; the guards read either the old or the new one."""
    writing.replace(_path(name), json.dumps(value))


def _path(name: str) -> str:
    return os.path.join(records.HOME, "keys", name)
