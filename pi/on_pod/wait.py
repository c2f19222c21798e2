"""`wait` on the pod: until a starting deployment is ready, has failed, or the time is over."""

from __future__ import annotations

import time

from pi.on_pod import audit, logs, records, status
from pi.on_pod.wait_shapes import WaitAnswer, WaitRequest
from pi.on_pod.wire import PodError, Wire

POLL_S = 0.25

LOG_TAIL_BYTES = 256 * 1024

CHANGES_READ = 200
"""Lines of the audit log in which the last change of a deployment is looked up."""


def wait(wire: Wire, request: WaitRequest) -> WaitAnswer:
    """Return the deployment once it no longer starts, or after `timeout_s`. Sends its log meanwhile.

    A deployment that does not answer may still recover, so it is waited for, too, but not if its watchdog found a hang.
    """
    name, timeout_s = request["name"], request["timeout_s"]
    deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    follower = logs.Follower(records.log_path(name), wire.secrets, 0)
    while not wire.lost.is_set():
        record = records.load(name)
        if record is None:
            return {"deployment": None, "last_change": _last_change(name), "log": logs.tail(name, LOG_TAIL_BYTES)}
        now = status.described(record)
        is_waiting = now["state"] in ("starting", "unresponsive") and "hung_s" not in now
        if not is_waiting or time.monotonic() >= deadline:
            return {"deployment": now, "last_change": "", "log": ""}
        text = follower.read()
        if text:
            wire.log(text)
        elif record.get("phase") == "downloading":
            wire.progress("%s is downloading" % name)
        wire.check_cancelled()
        time.sleep(POLL_S)
    raise PodError("lost", "pi disconnected")


def _last_change(name: str) -> str:
    """Return the command and the result of the last change of a deployment, such as "start failed: exited"."""
    for line in reversed(audit.last(audit.PATH, CHANGES_READ)):
        fields = line.split("\t")
        if len(fields) == 5 and fields[3] == name:
            return "%s %s" % (fields[2], fields[4])
    return ""
