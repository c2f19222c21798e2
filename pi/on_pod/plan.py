"""`plan`: have the pod's vLLM read the arguments of a plan. Nothing changes."""

from __future__ import annotations

from pi.on_pod import arguments
from pi.on_pod.plan_shapes import ReadAnswer, ReadRequest
from pi.on_pod.wire import Wire


def read(wire: Wire, request: ReadRequest) -> ReadAnswer:
    """Raise PodError if vLLM rejects the arguments."""
    arguments.check(wire, request["venv"], request["instance"], request["check"])
    return {"venv": request["venv"]}
