"""`scale` on the pod: open the endpoint of a model with replicas, and take replicas out of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pi.calls.call import Listener, call
from pi.calls.records import deployment
from pi.calls.start import Started
from pi.calls.templates import render
from pi.on_pod import scale_shapes as shapes
from pi.on_pod.scale_shapes import KeepRequest, LeaveRequest, LinkRequest, OpenAnswer, OpenRequest, UnlinkRequest
from pi.on_pod.shapes import StopAnswer
from pi.pods.types import Owner

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class Elsewhere:
    """Replicas of a model on another pod, behind a HAProxy of their own at this private address."""

    pod: str
    address: str
    port: int
    replicas: int


def open_endpoint(
    connection: Connection,
    *,
    model: str,
    name: str,
    key: str,
    private: bool,
    options: Mapping[str, Any],
    listen: Listener,
) -> Started:
    """Run HAProxy for a model that has no replica yet. Returns its endpoint."""
    instance, owner = secrets.token_hex(8), Owner.this()
    request: OpenRequest = {
        "name": name,
        "record": {
            "name": name,
            "model": model,
            "port": 0,
            "gpus": [],
            "memory_share": None,
            "api": "chat",
            "private": private,
            "venv": "",
            "instance": instance,
            "by": f"pid {owner.pid} on {owner.host}",
            "adapters": [],
            "idle_s": None,
            "on_idle": None,
            "replicas": [],
        },
        "files": {
            "launch.sh": render("balance.sh.j2", name=name, instance=instance),
            "haproxy.head": (files("pi.setup") / "templates" / "haproxy.cfg").read_text("utf-8"),
            "options.json": json.dumps(dict(options)),
        },
        "key": key,
    }
    answered = call(connection, "scale", "begin", request, OpenAnswer, listen)
    return Started(deployment(answered["record"]), answered["public"], ())


def link(connection: Connection, name: str, elsewhere: Sequence[Elsewhere], listen: Listener) -> None:
    """Have the endpoint of a model pass requests on to replicas on other pods, too. Raises PiError."""
    request: LinkRequest = {"name": name, "elsewhere": []}
    for each in elsewhere:
        place: shapes.Elsewhere = {
            "pod": each.pod,
            "address": each.address,
            "port": each.port,
            "replicas": each.replicas,
        }
        request["elsewhere"].append(place)
    call(connection, "scale", "link", request, type(None), listen)


def unlink_pod(connection: Connection, name: str, pod: str) -> None:
    """Have the endpoint of a model pass no requests on to another pod. Raises PiError."""
    request: UnlinkRequest = {"name": name, "pod": pod}
    call(connection, "scale", "unlink", request, type(None))


def take_out(connection: Connection, name: str, endpoint: str, listen: Listener) -> None:
    """Stop a replica when the requests that it answers have ended. Ctrl+C lets it get requests again."""
    request: LeaveRequest = {"name": name, "endpoint": endpoint}
    call(connection, "scale", "leave", request, list[StopAnswer], listen)


def keep_options(connection: Connection, name: str, options: Mapping[str, Any]) -> None:
    """Have the pod keep the options with which a model is started again."""
    request: KeepRequest = {"name": name, "options": dict(options)}
    call(connection, "scale", "keep", request, type(None))
