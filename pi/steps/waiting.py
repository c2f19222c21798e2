"""What became of a model that pi waited for."""

from __future__ import annotations

from pi import screen
from pi.calls.status import Found
from pi.calls.wait import Waited
from pi.errors import InputError, NotReadyError
from pi.pods.types import Pod
from pi.vllm.log import explain


def require_ready(pod: Pod, name: str, waited: Waited, seconds: float) -> Found:
    """Return the model if it runs. Raises NotReadyError with the cause, or InputError for an unknown name."""
    found = waited.found
    if found and found.state == "running":
        return found
    see_log = f"the whole log: pi logs {name}"
    if found and found.state in ("starting", "unresponsive") and found.hung_s is None:
        phase = f" ({found.phase})" if found.phase else f": {found.cause}" if found.cause else ""
        message = f"{name} is not ready after {screen.seconds(seconds)}; it is {found.state}{phase}"
        raise NotReadyError("not-ready-yet", message, f"it still starts; wait again: pi wait {name}")
    if found:
        cause = f": {found.cause}" if found.cause else ""
        raise NotReadyError("not-running", f"{name} does not run; it is {found.state}{cause}", see_log)
    if waited.last_change.startswith("start "):
        failure = explain(waited.log, None)
        cause = f": {failure.cause}" if failure.cause else f" ({waited.last_change})"
        hint = f"{failure.hint}\n  {see_log}" if failure.hint else see_log
        raise NotReadyError(failure.id or "start-failed", f"{name} did not start on {pod.name}{cause}", hint)
    stopped = "it was stopped; " if waited.last_change.startswith("stop ") else ""
    raise InputError("unknown-name", f"no model {name!r} on {pod.name}", f"{stopped}see: pi list")
