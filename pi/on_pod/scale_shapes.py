"""Shapes of the requests and answers of `scale` (see `shapes`)."""

from __future__ import annotations

from typing import Any, Dict, List, TypedDict

from pi.on_pod.record_shapes import Record, Reservation


class OpenRequest(TypedDict):
    """What to reserve for an endpoint, without its port, which the pod chooses; its files by name, and its key."""

    name: str
    record: Reservation
    files: Dict[str, str]
    key: str


class OpenAnswer(TypedDict):
    """`public` maps the pod's ports, as the provider does."""

    record: Record
    public: Dict[str, str]


class Elsewhere(TypedDict):
    """Replicas of a model on another pod, behind a HAProxy of their own at this private address."""

    pod: str
    address: str
    port: int
    replicas: int


class LinkRequest(TypedDict):
    """An endpoint, and the replicas on other pods to which it passes requests on, too."""

    name: str
    elsewhere: List[Elsewhere]


class UnlinkRequest(TypedDict):
    """An endpoint, and another pod whose replicas have been stopped."""

    name: str
    pod: str


class LeaveRequest(TypedDict):
    """A replica to drain and stop, and the endpoint in front of it."""

    name: str
    endpoint: str


class KeepRequest(TypedDict):
    """The options with which a model is started again."""

    name: str
    options: Dict[str, Any]
