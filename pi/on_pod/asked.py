"""When the pod was last asked: for the reminder of pods that only cost money."""

from __future__ import annotations

from pi.on_pod import records
from pi.on_pod.shapes import AskedAnswer
from pi.on_pod.wire import Wire


def asked(wire: Wire, request: object) -> AskedAnswer:
    """Return the age of the last request to any model of the pod, as the guards noted it."""
    return {"s_ago": records.pod_asked_s_ago()}
