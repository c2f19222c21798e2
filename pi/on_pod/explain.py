"""`explain` on the pod: the end of a deployment's log, its exit code, and what the kernel says of it."""

from __future__ import annotations

import contextlib
import os
from typing import Optional

from pi.on_pod import endings, records, status
from pi.on_pod.events import ServerDetail
from pi.on_pod.shapes import ExplainRequest
from pi.on_pod.wire import PodError, Wire


def explain(wire: Wire, request: ExplainRequest) -> ServerDetail:
    """Return how a deployment ended; without a name, the one whose log was written last.

    Raises PodError without a log.
    """
    name = request["name"] or _newest()
    if name is None or not os.path.exists(records.log_path(name)):
        raise PodError("no_log", "%s has no log" % name if name else "the pod has no log of a model")
    record = records.load(name)
    if record is None:
        return endings.kept(name)
    ending, hung = endings.of(record), records.hung(record)
    if hung and records.is_running(record):
        ending["hung_s"], ending["processes"] = hung
        return ending
    state = status.described(record)["state"]
    if state in ("running", "starting"):
        ending["state"] = state
    return ending


def _newest() -> Optional[str]:
    """Return the name of the log that was written last, or None if there is none."""
    written = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir(records.LOGS):
            with contextlib.suppress(OSError):  # deleted meanwhile, or a link to nowhere
                if entry.name.endswith(".log") and entry.is_file():
                    written[entry.name[: -len(".log")]] = entry.stat().st_mtime
    return max(written, key=lambda name: written[name], default=None)
