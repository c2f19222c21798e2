"""`key` on the pod: its named keys. It gets and keeps only their SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.on_pod.key_shapes import AddRequest, KeysAnswer, ListRequest, RevokeRequest

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


MAIN = "(PI_API_KEY)"
"""Name of the setup's key in a table; no named key can have it."""


@dataclass(frozen=True)
class Key:
    """A key of a pod and the requests that made a model work; `name` is None for that of the setup."""

    name: str | None
    added: str | None
    requests: int
    used_s_ago: float | None


@dataclass(frozen=True)
class Keys:
    """The keys of a pod. `deaf` are models whose guard knows no named keys."""

    keys: tuple[Key, ...]
    deaf: tuple[str, ...]


def add_key(connection: Connection, name: str, key: str) -> Keys:
    """Give the pod a named key. Returns when its models accept it. Raises InputError if the name has one."""
    request: AddRequest = {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}
    return _keys(call(connection, "key", "add", request, KeysAnswer))


def revoke_key(connection: Connection, name: str) -> Keys:
    """Remove a named key. Returns when the pod's models refuse it. Raises InputError for an unknown name."""
    request: RevokeRequest = {"name": name}
    return _keys(call(connection, "key", "revoke", request, KeysAnswer))


def read_keys(connection: Connection) -> Keys:
    """Return the keys of a pod."""
    request: ListRequest = {}
    return _keys(call(connection, "key", "listed", request, KeysAnswer))


def _keys(answer: KeysAnswer) -> Keys:
    keys = (Key(each["name"], each["added"], each["requests"], each["used_s_ago"]) for each in answer["keys"])
    return Keys(tuple(keys), tuple(answer["deaf"]))
