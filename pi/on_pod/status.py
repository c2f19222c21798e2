"""`list` on the pod: the state of each deployment; all are checked at the same time."""

from __future__ import annotations

import contextlib
from typing import cast

from pi.on_pod import (
    balancer,
    container,
    endings,
    gpu_users,
    gpus,
    health,
    logs,
    machine,
    process,
    records,
    storage,
    together,
    unrecorded,
    venvs,
)
from pi.on_pod.record_shapes import Record
from pi.on_pod.shapes import DeploymentStatus, StatusAnswer, StatusRequest
from pi.on_pod.wire import Wire

LOG_TAIL_BYTES = 64 * 1024


def status(wire: Wire, request: StatusRequest) -> StatusAnswer:
    """Return the pod's facts and the state of each deployment, with the log tail of those that do not run."""
    recorded = records.load_all()
    trouble = together.Later(storage.trouble)
    on_gpus = [record for record in recorded if record["gpus"]]
    computing = together.Later(lambda: gpu_users.named(on_gpus) if on_gpus else [])
    deployments = together.mapped(described, recorded)
    return {
        "deployments": deployments,
        "unrecorded": list(map(unrecorded.described, unrecorded.find_all())),
        "storage": trouble.result(),
        "full": storage.full((records.HOME, records.LOGS)),
        "boot_id": process.boot_id(),
        "boot": process.boot(),
        "machine": machine.identity(),
        "up_s": process.up_s(),
        "gpus": gpus.described(request["gpu_query"]),
        "gpu_processes": computing.result(),
        "vllm_version": venvs.vllm_version(),
        "extra_venvs": venvs.extra_venvs(),
        "public": container.ports(),
    }


def described(record: Record) -> DeploymentStatus:
    """Return a deployment's state now, with the log tail of one that does not run."""
    now = cast(DeploymentStatus, records.described(record))
    if balancer.is_endpoint(record):
        return _with_servers(record, now)
    if now["state"] == "starting" and not records.is_starting(record) and health.is_up(record["port"]):
        _take_over(record, now)
    if now["state"] == "running":
        now["other_processes"] = process.others(record["port"], records.living(record))
        hung = records.hung(record)
        if hung:
            now["state"], now["hung_s"] = "unresponsive", hung[0]
        elif not health.is_up(record["port"]):
            now["state"] = "unresponsive"
            if record.get("restarts"):
                now["state"], now["phase"] = "starting", "restarting"
    options = records.options(record["name"])
    if options:
        now["options"] = options
    asked_s_ago = records.asked_s_ago(record["name"])
    if asked_s_ago is not None:
        now["asked_s_ago"] = asked_s_ago
    if now["state"] == "idle":
        now["pod_stop"] = records.pod_stop(record["name"])
    if now["state"] not in ("running", "starting"):
        now["log"], now["kernel"] = logs.tail(record["name"], LOG_TAIL_BYTES), endings.kernel(record)
        now["left"] = records.living(record)
        held = gpus.held_mib(now["left"]) if now["left"] and record["gpus"] else {}
        now["held_mib"] = {str(pid): mib for pid, mib in held.items()}
    return now


def _with_servers(record: Record, now: DeploymentStatus) -> DeploymentStatus:
    """Return an endpoint's state now, with those of its replicas as HAProxy sees them."""
    replicas = balancer.replicas(record["name"])
    ages = [age for age in (records.asked_s_ago(each["name"]) for each in replicas) if age is not None]
    if ages:
        now["asked_s_ago"] = min(ages)
    options = records.options(record["name"])
    if options:
        now["options"] = options
    if now["state"] == "running":
        now["other_processes"] = process.others(record["port"], records.living(record))
        seen = balancer.servers(record["name"])
        now["servers"] = {own: seen[own].state if own in seen else "gone" for own in record["replicas"]}
        if "UP" not in now["servers"].values():
            is_starting = any(records.is_starting(each) for each in replicas)
            now["state"] = "starting" if is_starting else "unresponsive"
            now["objection"] = "none of its replicas serves"
    if now["state"] not in ("running", "starting"):
        now["left"] = records.living(record)
    return now


def _take_over(record: Record, now: DeploymentStatus) -> None:
    """Update a deployment that became ready after the call that waited for it was killed."""
    objection = health.objection(record, records.key(record["name"]))
    if objection:
        now["state"], now["objection"] = "unresponsive", objection
        return
    health.note_context(record, records.key(record["name"]))
    now["context"] = record.get("context")
    now["state"] = now["status"] = "running"
    with contextlib.suppress(OSError):
        records.save(cast(Record, dict(record, status="running")))
