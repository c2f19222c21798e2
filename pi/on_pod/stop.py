"""`stop` on the pod: end a deployment's processes, and check that its port and GPU memory are free."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Callable, Optional, cast

from pi.on_pod import audit, balancer, firewall, gpus, process, records, unrecorded
from pi.on_pod.pace import paced
from pi.on_pod.record_shapes import Record
from pi.on_pod.shapes import StopAnswer, StopRequest
from pi.on_pod.wire import PodError, Wire

TERM_PATIENCE_S = 20

OWNER_PATIENCE_S = 35
"""Seconds in which a start that is under way ends what it launched and reports that it was stopped."""

PROOF_PATIENCE_S = 15
"""Seconds that port and GPU memory may take to be free after the last process ended."""


def stop(wire: Wire, request: StopRequest) -> list[StopAnswer]:
    """Stop the named deployments with their replicas, or every one if no names are given.

    Raises PodError, and keeps the record, if processes, port or GPU memory of a deployment are not free.
    """
    names = [each for name in request["names"] for each in (name, *_replicas(name))] or [
        record["name"] for record in records.load_all()
    ] + [model.name for model in unrecorded.find_all()]
    return [_stop(wire, name) if records.read(name) or unrecorded.find(name) else _nothing(name) for name in names]


def _replicas(name: str) -> list[str]:
    return [record["name"] for record in records.load_all() if record.get("replica_of") == name]


def _nothing(name: str) -> StopAnswer:
    return {"name": name, "found": "nothing"}


@audit.logged("stop")
def _stop(wire: Wire, name: str) -> StopAnswer:
    wire.progress("stopping %s" % name)
    record = records.load(name)
    if record:
        return _stop_recorded(wire, record)
    model = unrecorded.find(name)
    return _stop_unrecorded(wire, model) if model else _nothing(name)


def _stop_recorded(wire: Wire, record: Record) -> StopAnswer:
    was_running, was_starting = records.is_running(record), records.is_starting(record)
    with contextlib.suppress(OSError):  # a full disk: only `pi logs` then reports another ending
        records.save(cast(Record, dict(record, stopping=True)))
        records.write(record["name"], records.STOPPED, wire.who)
    if "replica_of" in record:
        balancer.drop(record)
    if was_starting:
        record = _end_start(wire, record)
        was_running = records.is_running(record)
    living = records.living(record)
    memory = gpus.MemoryCheck(record, living, _shared(record["name"]))
    port = set(process.holders(process.sockets(record["port"]), living))
    ending = _end(wire, record["name"], record["pid"] if was_running else None, lambda: records.living(record))
    _prove_free(wire, record["name"], port, memory)
    problem = firewall.reopen(record["name"])
    records.forget(record["name"])
    answer: StopAnswer = {
        "name": record["name"],
        "found": "running" if was_running else "starting" if was_starting else "leftovers",
        "forced_after_s": ending.forced_after_s,
        "memory_proven": memory.is_possible,
        "other_processes": process.others(record["port"], ()),
    }
    if "rank" in record:
        answer["rank"] = record["rank"]
        answer["members"], answer["machines"] = record["members"], record.get("machines", [])
        answer["group"] = record.get("group", "")
    if problem:
        answer["firewall"] = problem
    return answer


def _stop_unrecorded(wire: Wire, model: unrecorded.Model) -> StopAnswer:
    """Stop a model whose record is missing or damaged, by the marks of its processes."""
    living = unrecorded.living(model)
    known = unrecorded.described(model)
    on_gpus = known["gpus"] or gpus.used_by(living)
    record = cast(Record, dict(known, gpus=on_gpus, memory_share=model.known.get("memory_share")))
    memory = gpus.MemoryCheck(record, living, _shared(model.name))
    port = set(process.holders(process.sockets(), living))
    server = unrecorded.server(living, model.sessions)
    ending = _end(wire, model.name, server, lambda: unrecorded.living(model))
    _prove_free(wire, model.name, port, memory)
    problem = firewall.reopen(model.name) or firewall.renew()
    if model.problem:
        records.forget(model.name)
    answer: StopAnswer = {
        "name": model.name,
        "found": "unrecorded" if living else "leftovers",
        "forced_after_s": ending.forced_after_s,
        "memory_proven": memory.is_possible,
    }
    if problem:
        answer["firewall"] = problem
    return answer


def _shared(name: str) -> set[int]:
    """Return the GPUs that other deployments use too."""
    return {gpu for other in records.load_all() if other["name"] != name for gpu in other["gpus"]}


def _end(wire: Wire, name: str, leader: Optional[int], living: Callable[[], list[int]]) -> process.Ending:
    """End all processes of a deployment. Raises PodError if one stays."""
    ending = process.end(wire.progress, leader, living, TERM_PATIENCE_S)
    if not ending.gone:
        states = ["pid %d survives KILL (state %s)" % (pid, (process.stat(pid) or "?")[0]) for pid in living()]
        raise PodError("unkillable", "cannot stop %s: %s" % (name, ", ".join(states)))
    return ending


def _prove_free(wire: Wire, name: str, sockets: set[str], memory: gpus.MemoryCheck) -> None:
    """Wait until the deployment's sockets are closed and its GPU memory is free. Raises PodError if they are not."""
    deadline = time.monotonic() + paced(PROOF_PATIENCE_S)
    is_last = False
    while True:
        held = sockets & process.sockets()
        missing = None if held else memory.missing()
        if not held and missing is None:
            return
        if is_last:
            break
        is_last = time.monotonic() > deadline  # a slow nvidia-smi described the past: look once more
        wire.progress("waiting for its %s" % ("port" if held else "GPU memory"))
        time.sleep(0.3)
    if held:
        who = map(process.described, set(process.holders(held, process.pids()).values()))
        ports = ", ".join(map(str, process.ports(held)))
        missing = "port %s is still open in %s" % (ports, ", ".join(who) or "a process of another user")
    raise PodError("not_free", "%s has ended, but %s" % (name, missing))


def _end_start(wire: Wire, record: Record) -> Record:
    """Have the call that starts a deployment end its work. Returns the last record that it left."""
    process.end(wire.progress, record["owner"], lambda: _owner(record), OWNER_PATIENCE_S, signal.SIGUSR1)
    return records.load(record["name"]) or record


def _owner(record: Record) -> list[int]:
    """Return the process that starts a deployment, and the download that it runs."""
    owned = process.members(record["owner"], record["instance"])
    return owned if records.is_starting(record) else []
