"""`start` on the pod: survey, reserve under the lock, download, launch, wait until ready."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any, Optional

from pi.on_pod import audit, download, health, logs, process, records, survey
from pi.on_pod.wire import PodError, Wire

POLL_S = 0.1

TERM_PATIENCE_S = 20

LOG_TAIL_BYTES = 256 * 1024


@audit.logged("start")
def start(wire: Wire, request: dict[str, Any]) -> dict[str, Any]:
    """Send a survey, take pi's plan for it, and see it through. Returns the deployment's record.

    Survey, plan and reservation happen under the pod's lock, so that two starts never choose the same
    name, port or GPU. The process of this call is the reservation's owner: while it lives, the record counts.
    """
    with records.locked(wire):
        _check_name(request["name"])
        wire.emit("survey", facts=survey.survey(request))
        plan = wire.answer(timeout_s=60)
        wire.check_cancelled()
        wire.hide([plan["key"]])
        record = _reserve(plan)
    try:
        where = survey.model_facts(record["model"])["where"]
        if where == "absent":
            raise PodError("no_model", "there is no directory %s on the pod" % record["model"])
        if where == "missing":
            record["phase"] = "downloading"
            records.save(record)
            download.download(wire, record["model"], record["instance"])
        launcher = _launch(record, plan)
        _wait_until_ready(wire, record, launcher, plan)
        record["side_doors"] = sorted(process.public_ports(records.living(record)) - {record["port"]})
        record["ready_after_s"] = round(process.uptime_s() - record["created"], 1)
        records.save(dict(record, status="running"))
    except Exception:
        _clear(wire, record)
        raise
    return dict(record, status="running")


def _check_name(name: str) -> None:
    """A name is free when nothing lives under it; what a crashed deployment left is cleared."""
    record = records.load(name)
    if record is None:
        return
    if records.is_starting(record) or records.living(record):
        raise PodError("name_taken", "%s is already %s" % (name, _doing(record)), record=record)
    records.forget(name)


def _doing(record: dict[str, Any]) -> str:
    if record["status"] != "starting":
        return "running, on port %d" % record["port"]
    return "starting (%s, %d s ago)" % (record.get("by", "another pi"), max(0, process.uptime_s() - record["created"]))


def _reserve(plan: dict[str, Any]) -> dict[str, Any]:
    owner = os.getpid()
    owner_stat = process.stat(owner)
    record = dict(
        plan["record"],
        status="starting",
        created=process.uptime_s(),
        boot_id=process.boot_id(),
        owner=owner,
        owner_started=owner_stat[2] if owner_stat else 0,
    )
    records.save(record)
    return record


def _launch(record: dict[str, Any], plan: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the launcher in a session of its own, its log in ~/.vllm_logs. Returns the launcher."""
    name = record["name"]
    for file_name, text in plan["files"].items():
        records.write(name, file_name, text)
    os.makedirs(records.LOGS, exist_ok=True)
    log = records.log_path(name)
    if os.path.exists(log):
        os.replace(log, log + ".1")
    with open(log, "ab") as output:
        launcher = subprocess.Popen(
            ["bash", os.path.join(records.folder(name), "launch.sh")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=os.path.expanduser("~"),
        )
    record["session"] = launcher.pid
    record["phase"] = "loading"
    record["pid"] = server = _server_pid(name, launcher)
    found = process.stat(server)
    record["started"] = found[2] if found else 0
    records.save(record)
    return launcher


def _server_pid(name: str, launcher: subprocess.Popen[bytes]) -> int:
    """The pid of vLLM's API server, which the launcher writes down as soon as it has started it."""
    path = os.path.join(records.folder(name), "pid")
    for _ in range(200):
        if os.path.exists(path):
            with open(path) as file:
                return int(file.read())
        if launcher.poll() is not None:
            break
        time.sleep(0.02)
    raise PodError("launch_failed", "the launcher ended at once", name=name, log=logs.tail(name, LOG_TAIL_BYTES))


def _wait_until_ready(
    wire: Wire, record: dict[str, Any], launcher: subprocess.Popen[bytes], plan: dict[str, Any]
) -> None:
    wire.emit("launched", pid=record["pid"], port=record["port"])
    follower = logs.Follower(records.log_path(record["name"]), wire.secrets)
    deadline: Optional[float] = time.monotonic() + plan["timeout_s"] if plan.get("timeout_s") else None
    while True:
        text = follower.read()
        if text:
            wire.emit("log", text=text)
        wire.check_cancelled()
        if launcher.poll() is not None or not records.is_running(record):
            _fail("exited", "vLLM ended before it was ready", record)
        if health.is_up(record["port"]):
            reason = health.objection(record, plan["key"])
            if reason:
                _fail("not_ours", reason, record)
            return
        if deadline is not None and time.monotonic() > deadline:
            _fail("timeout", "%s was not ready after %d s and is stopped" % (record["name"], plan["timeout_s"]), record)
        time.sleep(POLL_S)


def _fail(kind: str, message: str, record: dict[str, Any]) -> None:
    name = record["name"]
    log = logs.tail(name, LOG_TAIL_BYTES)
    raise PodError(kind, message, name=name, venv=record["venv"], exit=records.exit_code(name), log=log)


def _clear(wire: Wire, record: dict[str, Any]) -> None:
    """End what was started and forget it, so that its port, GPUs and name are free again. The log stays."""
    leader = record["pid"] if records.is_running(record) else None
    process.end(wire.progress, leader, lambda: records.living(record), TERM_PATIENCE_S)
    records.forget(record["name"])
