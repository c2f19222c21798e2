"""`stop` on the pod: end a deployment's processes, and check that its port and GPU memory are free."""

from __future__ import annotations

import contextlib
import time
from typing import cast

from pi.on_pod import audit, gpus, process, records
from pi.on_pod.pace import paced
from pi.on_pod.shapes import Record, StopAnswer, StopRequest
from pi.on_pod.wire import PodError, Wire

TERM_PATIENCE_S = 20

PROOF_PATIENCE_S = 15
"""Seconds that port and GPU memory may take to be free after the last process ended."""


def stop(wire: Wire, request: StopRequest) -> list[StopAnswer]:
    """Stop the named deployments, or every one if no names are given.

    Raises PodError, and keeps the record, if processes, port or GPU memory of a deployment are not free.
    """
    names = request["names"] or [record["name"] for record in records.load_all()]
    return [_stop(wire, name) if records.load(name) else {"name": name, "found": "nothing"} for name in names]


@audit.logged("stop")
def _stop(wire: Wire, name: str) -> StopAnswer:
    record = records.load(name)
    if record is None:
        return {"name": name, "found": "nothing"}
    wire.progress("stopping %s" % name)
    was_running, was_starting = records.is_running(record), records.is_starting(record)
    with contextlib.suppress(OSError):  # a full disk: only `pi logs` then reports another ending
        records.save(cast(Record, dict(record, stopping=True)))
    if was_starting:
        process.end(wire.progress, record["owner"], lambda: _owner(record), 2)
    living = records.living(record)
    shared = {gpu for other in records.load_all() if other["name"] != name for gpu in other["gpus"]}
    memory = gpus.MemoryCheck(record, living, shared)
    port = set(process.holders(process.sockets(record["port"]), living))
    leader = record["pid"] if was_running else None
    ending = process.end(wire.progress, leader, lambda: records.living(record), TERM_PATIENCE_S)
    if not ending.gone:
        left = records.living(record)
        states = ["pid %d survives KILL (state %s)" % (pid, (process.stat(pid) or "?")[0]) for pid in left]
        raise PodError("unkillable", "cannot stop %s: %s" % (name, ", ".join(states)), name=name)
    _prove_free(wire, record, port, memory)
    records.forget(name)
    return {
        "name": name,
        "found": "running" if was_running else "starting" if was_starting else "leftovers",
        "forced_after_s": ending.forced_after_s,
        "memory_proven": memory.is_possible,
        "other_processes": process.others(record["port"], ()),
    }


def _prove_free(wire: Wire, record: Record, port: set[str], memory: gpus.MemoryCheck) -> None:
    """Wait until the deployment's sockets are closed and its GPU memory is free. Raises PodError if they are not."""
    deadline = time.monotonic() + paced(PROOF_PATIENCE_S)
    is_last = False
    while True:
        held = port & process.sockets(record["port"])
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
        missing = "port %d is still open in %s" % (record["port"], ", ".join(who) or "a process of another user")
    raise PodError("not_free", "%s has ended, but %s" % (record["name"], missing), name=record["name"])


def _owner(record: Record) -> list[int]:
    """Return the process that starts a deployment, and the download that it runs."""
    owned = process.members(record["owner"], record["instance"])
    return owned if records.is_starting(record) else []
