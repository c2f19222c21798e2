"""`stop` on the pod: end the process group, and prove that processes, port and GPU memory are free."""

from __future__ import annotations

from typing import Any

from pi.pod import audit, process, records
from pi.pod.wire import PodError, Wire

TERM_PATIENCE_S = 20


def stop(wire: Wire, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Stop the named deployments, or with no names every one. One result each: name and what was found."""
    names = request["names"] or [record["name"] for record in records.load_all()]
    return [_stop(wire, name) for name in names]


@audit.logged("stop")
def _stop(wire: Wire, name: str) -> dict[str, Any]:
    record = records.load(name)
    if record is None:
        return {"name": name, "found": "nothing"}
    wire.emit("progress", text="stopping %s" % name)
    was_running = records.is_running(record)
    if records.is_starting(record):
        process.end(wire, record["owner"], lambda: _owner(record), 2)
    if not process.end(wire, record["pid"] if was_running else None, lambda: records.living(record), TERM_PATIENCE_S):
        left = records.living(record)
        states = ["%d (state %s)" % (pid, (process.stat(pid) or "?")[0]) for pid in left]
        raise PodError("unkillable", "%s does not die: pid %s" % (name, ", ".join(states)), name=name)
    records.forget(name)
    return {"name": name, "found": "running" if was_running else "leftovers"}


def _owner(record: dict[str, Any]) -> list[int]:
    """The pi call that still works for a starting deployment, and the download that it runs."""
    owned = process.members(record["owner"], record["instance"])
    return owned if records.is_starting(record) else []
