"""`explain` on the pod: the end of a deployment's log, its exit code, and what the kernel says of it."""

from __future__ import annotations

import os
from typing import Optional

from pi.on_pod import endings, records
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
    return endings.of(record) if record else endings.kept(name)


def _newest() -> Optional[str]:
    """Return the name of the log that was written last, or None if there is none."""
    try:
        found = [entry for entry in os.scandir(records.LOGS) if entry.name.endswith(".log")]
    except OSError:
        return None
    newest = max(found, key=lambda entry: entry.stat().st_mtime, default=None)
    return newest.name[: -len(".log")] if newest else None
