"""`start` on the pod: survey, reserve under the lock, download, launch, wait until ready.

If vLLM exits before it is ready, pi gets its log and may correct an argument. Then vLLM is launched once more.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from typing import Any, Dict, List, NoReturn, Optional, cast

from pi.on_pod import (
    arguments,
    audit,
    balancer,
    compiled,
    container,
    download,
    endings,
    firewall,
    health,
    lock,
    logs,
    process,
    reading,
    records,
    stacks,
    storage,
    survey,
    unrecorded,
    watch,
)
from pi.on_pod.events import FailureKind
from pi.on_pod.pace import paced
from pi.on_pod.record_shapes import Record, Reservation
from pi.on_pod.shapes import Compiling, Launch, Relaunch, Repository, Retry, StartAnswer, StartRequest
from pi.on_pod.wire import Cancelled, PodError, Wire

POLL_S = 0.1

TERM_PATIENCE_S = 20

RETRY_PATIENCE_S = 60
"""Time for pi's answer to a failed try; pi notices a lost connection after 20 s, and reconnects for 15 s and more."""


@audit.logged("start")
def start(wire: Wire, request: StartRequest) -> StartAnswer:
    """Send a survey, get pi's plan, and carry it out. Returns the deployment's record.

    Survey, plan and reservation happen under the pod's lock, so that two starts never choose the same name, port
    or GPU. This process owns the reservation, which is valid while it lives.
    """
    with lock.locked(wire):
        check_name(request["name"])
        wire.emit({"event": "survey", "facts": survey.survey(request)})
        plan: Launch = wire.answer(timeout_s=60)
        wire.check_cancelled()
        if "replica_of" in plan["record"]:  # the endpoint passes on the key that it accepts
            plan["key"] = plan["files"]["key"] = records.key(plan["record"]["replica_of"])
        wire.hide([plan["key"]])
        record = reserve(plan["record"])
        try:
            _guard_ports(record)
        except PodError:
            clear(wire, record)
            raise
    try:
        if plan["check"]:
            arguments.check(wire, record["venv"], record["instance"], plan["check"])
        _fetch(wire, record, plan)
        _serve(wire, record, plan)
        record["side_doors"] = _side_doors(record)
        if not record.get("rank"):
            record["ready_after_s"] = round(process.uptime_s() - record["created"], 1)
            health.note_context(record, plan["key"])
        wire.check_cancelled()
        record["status"] = "running"
        records.save(record)
        if "replica_of" in record:
            balancer.join(wire, record)
    except Exception as error:
        by = records.stopper(record["name"]) if isinstance(error, Cancelled) else None
        clear(wire, record)
        if by:
            raise PodError("stopped", "%s was stopped while it started, by %s" % (record["name"], by)) from None
        raise
    return {"record": record, "side_doors": record["side_doors"]}


def _guard_ports(record: Record) -> None:
    """Keep all but the pods of a model from the ports between them, or let everyone reach the port of another one.

    Raises PodError.
    """
    if not record.get("closed"):
        return firewall.admit(record["name"], record["port"])
    problem = firewall.close(record["name"], record["addresses"], record["port"])
    if problem:
        raise PodError("not_closed", "cannot set the pod's firewall: %s" % problem)
    return None


def _side_doors(record: Record) -> List[int]:
    """Return the other ports on which a deployment listens to the network without a key."""
    if record.get("closed"):
        return []
    return sorted(process.public_ports(records.living(record)) - {record["port"]})


def check_name(name: str) -> None:
    """Delete the record of a crashed deployment. Raises PodError if the name is in use."""
    record = records.load(name)
    if record is None:
        loose = unrecorded.find(name)
        if loose:
            raise PodError("name_taken", "%s %s" % (name, _trouble(loose)))
        return
    if records.is_starting(record) or records.living(record):
        raise PodError("name_taken", "%s is already %s" % (name, _doing(record)))
    firewall.reopen(name)
    records.forget(name)


def _trouble(model: unrecorded.Model) -> str:
    pids = unrecorded.living(model)
    runs = "runs (pid %d)" % pids[0] if pids else "has ended"
    return "%s, and its record on the pod is %s" % (runs, "damaged: " + model.problem if model.problem else "missing")


def _doing(record: Record) -> str:
    if record["status"] != "starting":
        return "running, on port %d" % record["port"]
    return "starting (%s, %d s ago)" % (record.get("by", "another pi"), max(0, process.uptime_s() - record["created"]))


def reserve(reservation: Reservation) -> Record:
    """Save a record that this call owns."""
    owner = os.getpid()
    owner_stat = process.stat(owner)
    record = cast(Record, dict(reservation, status="starting"))
    record["created"] = process.uptime_s()
    record["boot_id"] = process.boot_id()
    record["owner"] = owner
    record["owner_started"] = owner_stat[2] if owner_stat else 0
    records.save(record)
    return record


def _fetch(wire: Wire, record: Record, plan: Launch) -> None:
    """Download the model and the repositories beside it, unless they are on the pod."""
    model: Repository = {
        "id": record["model"],
        "revision": plan["revision"],
        "weights": True,
        "load_format": plan["load_format"],
    }
    if survey.is_path(model["id"]):
        if survey.model_facts(model["id"])["where"] == "absent":
            raise PodError("no_model", "the pod has no directory %s" % model["id"])
        wanted = plan["repositories"]
    else:
        wanted = [model, *plan["repositories"]]
    missing = [repository for repository in wanted if not survey.is_present(repository)]
    if missing:
        record["phase"] = "downloading"
        records.save(record)
    for repository in missing:
        download.download(wire, repository, record["instance"], plan["hub_environment"])


def _serve(wire: Wire, record: Record, plan: Launch) -> None:
    """Launch vLLM and wait until it is ready, with one more try if pi corrects an argument.

    If vLLM took the size of its KV cache from an earlier start and fails, it is launched once more without.
    """
    deadline = time.monotonic() + (plan["timeout_s"] or float("inf"))
    _write(record, plan["files"])
    place = _place(wire, record, plan["compiling"])
    try:
        return _try(wire, record, plan, place, deadline)
    except PodError as error:
        if error.kind != "exited" or "rank" in record:  # of several pods, all start again or none
            raise
        relaunch: Optional[Relaunch] = None
        if compiled.has_dropped_plan(place, error.detail["log"]):
            wire.emit(
                {
                    "event": "note",
                    "text": "vLLM failed with the KV cache's size of an earlier start; starting it again without",
                }
            )
        else:
            relaunch = None if plan["alone"] else _correction(wire, error)
            if relaunch is None:
                raise
    _end_processes(wire, record)
    records.forget_server(record["name"])
    _write(record, relaunch["files"] if relaunch else plan["files"])
    if relaunch:
        record["memory_share"] = relaunch["memory_share"]
    again = _place(wire, record, relaunch["compiling"] if relaunch else plan["compiling"])
    _try(wire, record, plan, again, deadline)


def _place(wire: Wire, record: Record, compiling: Compiling) -> compiled.Place:
    """Return where a start keeps what it compiles, and tell pi if pods cannot share it."""
    venv = os.path.join(os.path.expanduser("~"), record["venv"])
    place = compiled.prepare(venv, compiling)
    records.write(record["name"], compiled.FILE, place.name + "\n")
    if place.problem:
        wire.emit({"event": "note", "text": "compiled code stays on this pod, not beside the models: " + place.problem})
    return place


def _try(wire: Wire, record: Record, plan: Launch, place: compiled.Place, deadline: float) -> None:
    launcher = launch(wire, record, plan, deadline, place.variables)
    if record.get("rank"):  # it answers no request: pi learns from the head that all are ready
        wire.emit({"event": "launched", "pid": record["pid"], "port": record["port"]})
        return
    _wait_until_ready(wire, record, launcher, plan, deadline)
    if "rank" not in record:  # the room that one pod measured would differ from that of the others
        compiled.note_ready(place)


def _correction(wire: Wire, error: PodError) -> Optional[Relaunch]:
    """Ask pi how to launch again after a failed try. Returns None if pi has no correction or does not answer."""
    log, code = error.detail["log"], error.detail["exit"]
    retry: Optional[Retry] = wire.ask({"event": "exited", "log": log, "exit": code}, paced(RETRY_PATIENCE_S))
    return retry["relaunch"] if retry else None


def _write(record: Record, files: Dict[str, str]) -> None:
    for file_name, text in files.items():
        records.write(record["name"], file_name, text)


def launch(
    wire: Wire, record: Record, plan: Launch, deadline: float, variables: Optional[Dict[str, str]] = None
) -> subprocess.Popen[bytes]:
    """Start the launcher in a new session, with its log in ~/.vllm_logs. Returns the launcher."""
    name = record["name"]
    os.makedirs(records.LOGS, exist_ok=True)
    log = records.log_path(name)
    if os.path.exists(log):
        os.replace(log, log + ".1")
    endings.forget(name)
    record["launched"], record["kills"] = process.uptime_s(), endings.kills()
    with open(log, "ab") as output:
        launcher = subprocess.Popen(
            ["bash", os.path.join(records.folder(name), "launch.sh")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=os.path.expanduser("~"),
            env={**os.environ, **(variables or {}), **(container.credentials() if record.get("on_idle") else {})},
        )
    record["session"] = launcher.pid
    record["phase"] = "loading"
    record["pid"] = server = _server_pid(wire, record, launcher, plan, deadline)
    fields = process.stat(server)
    record["started"] = fields[2] if fields else 0
    records.save(record)
    return launcher


def _server_pid(wire: Wire, record: Record, launcher: subprocess.Popen[bytes], plan: Launch, deadline: float) -> int:
    """Return the pid of vLLM's API server, which the launcher writes to a file. Waits while the launcher lives."""
    path = os.path.join(records.folder(record["name"]), "pid")
    while True:
        has_ended = launcher.poll() is not None
        text = reading.beginning(path, 20).strip()
        if text.isdecimal():
            return int(text)
        if has_ended:
            fail("launch_failed", "the launcher exited before it ran vLLM", record)
        wire.check_cancelled()
        if time.monotonic() > deadline:
            _fail_late(record, plan)
        time.sleep(0.02)


EXIT_CODE_S = 3


def _await_exit_code(record: Record, launcher: subprocess.Popen[bytes]) -> None:
    """Wait until the launcher has written how its server ended."""
    deadline = time.monotonic() + EXIT_CODE_S
    while records.exit_code(record["name"]) is None and launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def _wait_until_ready(
    wire: Wire, record: Record, launcher: subprocess.Popen[bytes], plan: Launch, deadline: float
) -> None:
    wire.emit({"event": "launched", "pid": record["pid"], "port": record["port"]})
    follower, progress = logs.Follower(records.log_path(record["name"]), wire.secrets), watch.Watch()
    while True:
        progress.feed(_send_log(wire, follower))
        wire.check_cancelled()
        if launcher.poll() is not None or not records.is_running(record):
            _await_exit_code(record, launcher)
            fail("exited", "vLLM exited before it was ready", record)
        if health.is_up(record["port"], deadline):
            reason = health.objection(record, plan["key"], deadline)
            if reason and time.monotonic() < deadline:
                fail("not_ours", reason, record)
            if not reason:
                _send_log(wire, follower)  # what came since, with vLLM's figures of its memory
                return
        if time.monotonic() > deadline:
            _fail_late(record, plan, progress.still_s())
        if progress.is_due():
            _report_still(wire, record, progress.still_s())
        time.sleep(POLL_S)


def _send_log(wire: Wire, follower: logs.Follower) -> str:
    """Send what a log has got since, and return it."""
    text = follower.read()
    if text:
        wire.log(text)
    return text


STILL_LOG_BYTES = 16 * 1024


def _report_still(wire: Wire, record: Record, seconds: float) -> None:
    """Tell pi where the processes stand, if the log does not move."""
    log = logs.tail(record["name"], STILL_LOG_BYTES)
    wire.emit({"event": "still", "seconds": round(seconds), "log": log, "processes": stacks.of(record)})


def _fail_late(record: Record, plan: Launch, still_s: float = 0) -> NoReturn:
    late = "%s was not ready after %s s; pi stopped it" % (record["name"], plan["timeout_s"])
    fail("timeout", late, record, {"still_s": still_s, "processes": stacks.of(record)})


def fail(kind: FailureKind, message: str, record: Record, more: Optional[Dict[str, Any]] = None) -> NoReturn:
    full = storage.full((records.HOME, records.LOGS, tempfile.gettempdir(), os.path.expanduser("~/.cache")))
    if full:
        raise PodError("disk_full", "the pod's disk is full (%s): %s" % (full, message))
    ending = endings.of(record)
    endings.keep(ending)
    raise PodError(kind, message, **{**ending, **(more or {})})


def clear(wire: Wire, record: Record) -> None:
    """End a failed start and delete its record, to free its port, GPUs and name. Keeps the log."""
    _end_processes(wire, record)
    firewall.reopen(record["name"])
    with contextlib.suppress(PodError):  # the cause of the failed start matters more
        records.forget(record["name"])


def _end_processes(wire: Wire, record: Record) -> None:
    leader = record["pid"] if records.is_running(record) else None
    process.end(wire.progress, leader, lambda: records.living(record), TERM_PATIENCE_S)
