"""Shapes of requests for the named keys of a pod, and of their answer."""

from __future__ import annotations

from typing import List, Optional, TypedDict


class AddRequest(TypedDict):
    """`sha256` is that of the key, in hexadecimal; the key itself stays with its users."""

    name: str
    sha256: str


class RevokeRequest(TypedDict):
    name: str


class ListRequest(TypedDict):
    pass


class Key(TypedDict):
    """A key of the pod. `name` is None for that of the setup, `added` is in UTC.

    `requests` counts those that made a model work; `used_s_ago` is the age of the last one.
    """

    name: Optional[str]
    added: Optional[str]
    requests: int
    used_s_ago: Optional[float]


class KeysAnswer(TypedDict):
    """The keys after the call. `deaf` are models whose guard, of an older pi, knows no named keys."""

    keys: List[Key]
    deaf: List[str]
