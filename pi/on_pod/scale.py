"""`scale` on the pod: the endpoint of a model with replicas, and replicas that leave it. A start lets them join."""

from __future__ import annotations

import contextlib
import json
import time
from typing import List, cast

from pi.on_pod import audit, balancer, container, firewall, haproxy, health, lock, process, records, start, stop
from pi.on_pod.pace import paced
from pi.on_pod.scale_shapes import KeepRequest, LeaveRequest, LinkRequest, OpenAnswer, OpenRequest, UnlinkRequest
from pi.on_pod.shapes import Launch, StopAnswer
from pi.on_pod.wire import PodError, Wire

FIRST_PORT = 8001

READY_S = 20


@audit.logged("open")
def begin(wire: Wire, request: OpenRequest) -> OpenAnswer:
    """Run HAProxy for a model that has no replica yet. Raises PodError, and then nothing is left."""
    program = haproxy.provide(wire)
    wire.hide([request["key"]])
    with lock.locked(wire):
        start.check_name(request["name"])
        taken = process.listening_ports() | {record["port"] for record in records.load_all()}
        request["record"]["port"] = next(port for port in range(FIRST_PORT, 65536) if port not in taken)
        record = start.reserve(request["record"])
    plan = cast(Launch, {"timeout_s": READY_S})
    try:
        for file_name, text in request["files"].items():
            records.write(record["name"], file_name, text)
        records.write(record["name"], "key", request["key"])
        balancer.write_files(record, program, request["key"])
        firewall.admit(record["name"], record["port"])
        deadline = time.monotonic() + paced(READY_S)
        launcher = start.launch(wire, record, plan, deadline)
        while health.get(record["port"], "/health")[0] != 503:
            wire.check_cancelled()
            if launcher.poll() is not None:
                start.fail("exited", "HAProxy exited before it was ready", record)
            if time.monotonic() > deadline:
                start.fail("timeout", "HAProxy was not ready after %d s; pi stopped it" % READY_S, record)
            time.sleep(start.POLL_S)
        if problem := health.open_door(record["port"], bool(record.get("private")), deadline):
            start.fail("not_ours", problem, record)
        record["status"] = "running"
        records.save(record)
    except Exception:
        start.clear(wire, record)
        raise
    return {"record": record, "public": container.ports()}


@audit.logged("link")
def link(wire: Wire, request: LinkRequest) -> None:
    """Let an endpoint pass requests on to replicas on other pods, and to no others. Raises PodError."""
    balancer.link(wire, request["name"], request["elsewhere"])


@audit.logged("unlink")
def unlink(wire: Wire, request: UnlinkRequest) -> None:
    """Let an endpoint pass requests on to replicas on one other pod no longer. Raises PodError."""
    balancer.unlink(request["name"], request["pod"])


@audit.logged("remove")
def leave(wire: Wire, request: LeaveRequest) -> List[StopAnswer]:
    """Take a replica out of its endpoint when its requests have ended, and stop it."""
    name, endpoint = request["name"], records.load(request["endpoint"])
    if endpoint is None or not records.is_endpoint(endpoint):
        raise PodError("no_endpoint", "%s has no replicas" % request["endpoint"], name=request["endpoint"])
    balancer.leave(wire, endpoint["name"], name)
    return stop.stop(wire, {"names": [name]})


def keep(wire: Wire, request: KeepRequest) -> None:
    """Keep the options with which a model is started again, unless it is gone."""
    if records.load(request["name"]):
        with contextlib.suppress(OSError):
            records.write(request["name"], "options.json", json.dumps(request["options"]))
