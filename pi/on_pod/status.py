"""`list` on the pod: the state of each deployment; all servers are asked at the same time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, List, Tuple, cast

from pi.on_pod import (
    balancer,
    container,
    endings,
    firewall,
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

if TYPE_CHECKING:
    from pi.on_pod.record_shapes import Record
    from pi.on_pod.shapes import StatusAnswer, StatusRequest
    from pi.on_pod.status_shapes import DeploymentStatus
    from pi.on_pod.wire import Wire

LOG_TAIL_BYTES = 64 * 1024


def status(wire: Wire, request: StatusRequest) -> StatusAnswer:
    """Return the pod's facts and the state of each deployment, with the log tail of those that do not run."""
    recorded = records.load_all()
    trouble = together.Later(storage.trouble)
    look = process.Look()
    on_gpus = [record for record in recorded if record["gpus"]]
    computing = together.Later(lambda: gpus.processes() if on_gpus else [])
    deployments = described_all(recorded, look)
    return {
        "deployments": deployments,
        "unrecorded": [unrecorded.described(model, look.living) for model in unrecorded.find_all(look.living)],
        "storage": trouble.result(),
        "full": storage.full((records.HOME, records.LOGS)),
        "boot_id": process.boot_id(),
        "boot": process.boot(),
        "machine": machine.identity(),
        "up_s": process.up_s(),
        "gpus": gpus.described(request["gpu_query"]),
        "gpu_processes": gpu_users.named(computing.result(), on_gpus, look.living),
        "vllm_version": venvs.vllm_version(),
        "extra_venvs": venvs.extra_venvs(),
        "public": container.ports(),
    }


def described(record: Record) -> DeploymentStatus:
    """Return a deployment's state now, with the log tail of one that does not run."""
    return described_all([record], process.Look())[0]


def described_all(recorded: List[Record], look: process.Look) -> List[DeploymentStatus]:
    """Return the state of each deployment now, with the log tails of those that do not run.

    Threads wait for servers, logs and nvidia-smi alone: reads of /proc in several threads take five times the CPU.
    """
    found = [(record, cast("DeploymentStatus", records.described(record))) for record in recorded]
    asked = [record["port"] for record, now in found if _may_answer(record, now)]
    answers = dict(together.mapped(lambda port: (port, health.is_up(port)), asked))
    for record, now in found:
        if records.is_endpoint(record):
            _add_servers(record, now, look)
            continue
        is_up = answers.get(record["port"], False)
        if now["state"] == "starting" and is_up:
            _take_over(record, now)
        if now["state"] == "running" and not record.get("rank"):
            _check_server(record, now, is_up, look)
        if now["state"] == "running" and record.get("closed") and not firewall.is_closed(record["name"]):
            now["unguarded"] = True
        options = records.options(record["name"])
        if options:
            now["options"] = options
        asked_s_ago = records.asked_s_ago(record["name"])
        if asked_s_ago is not None:
            now["asked_s_ago"] = asked_s_ago
        if now["state"] == "idle":
            now["pod_stop"] = records.pod_stop(record["name"])
        if now["state"] not in ("running", "starting"):
            now["left"] = records.living(record, look.living)
    ended = [each for each in found if each[1]["state"] not in ("running", "starting")]
    together.mapped(_add_ending, [each for each in ended if not records.is_endpoint(each[0])])
    return [now for _, now in found]


def _may_answer(record: Record, now: DeploymentStatus) -> bool:
    if records.is_endpoint(record) or record.get("rank"):
        return False
    return now["state"] == "running" or (now["state"] == "starting" and not records.is_starting(record))


def _check_server(record: Record, now: DeploymentStatus, is_up: bool, look: process.Look) -> None:
    """Add other processes on its port, and correct the state of a server that does not answer."""
    port = record["port"]
    others = process.others(port, records.living(record, look.living), look.listeners)
    now["other_processes"] = others and process.others(port, records.living(record))  # it may have started since
    hung = records.hung(record)
    if hung:
        now["state"], now["hung_s"] = "unresponsive", hung[0]
    elif not is_up:
        now["state"] = "unresponsive"
        if record.get("restarts"):
            now["state"], now["phase"] = "starting", "restarting"


def _add_ending(ended: Tuple[Record, DeploymentStatus]) -> None:
    """Add what the log, the kernel and the GPUs say about a deployment that does not run."""
    record, now = ended
    link = records.link(record["name"])
    if link:
        now["link"] = link
    now["log"], now["kernel"] = logs.tail(record["name"], LOG_TAIL_BYTES), endings.kernel(record)
    held = gpus.held_mib(now["left"]) if now["left"] and record["gpus"] else {}
    now["held_mib"] = {str(pid): mib for pid, mib in held.items()}


def _add_servers(record: Record, now: DeploymentStatus, look: process.Look) -> None:
    """Add the states of an endpoint's replicas as HAProxy sees them."""
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
        now["left"] = records.living(record, look.living)


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
        records.save(cast("Record", dict(record, status="running")))
