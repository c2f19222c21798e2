"""What became of a model that pi waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi import screen
from pi.calls.call import Listener
from pi.calls.status import Found
from pi.calls.wait import Waited, wait_for
from pi.errors import InputError, NotReadyError
from pi.pods.types import Pod
from pi.steps import listing, reconcile, states, where
from pi.steps.states import Listed
from pi.vllm.log import explain

if TYPE_CHECKING:
    from pi.ssh.connection import Connection
    from pi.steps.json_shapes import WaitJson


@dataclass(frozen=True)
class Ready:
    """A model that runs, and how long pi waited for it."""

    model: Listed
    waited_s: float

    def as_json(self, pod: str) -> WaitJson:
        return {"pod": pod, "model": self.model.as_json(), "waited_seconds": round(self.waited_s, 1)}


def until_ready(pod: Pod, connection: Connection, name: str, timeout_s: int | None, listen: Listener) -> Ready:
    """Wait until a model runs, and note it in pods.json. Raises as `require_ready` does."""
    began = time.monotonic()
    waited = wait_for(connection, name, timeout_s, listen)
    found = require_ready(pod, name, waited, time.monotonic() - began)
    reconcile.adopt(pod, [found.deployment])
    seen = listing.see(pod, connection)
    model = next(model for model in states.listed(pod, seen.status, seen.host) if model.model.name == name)
    return Ready(model, time.monotonic() - began)


def require_ready(pod: Pod, name: str, waited: Waited, seconds: float) -> Found:
    """Return the model if it runs. Raises NotReadyError with the cause, or InputError for an unknown name."""
    found = waited.found
    if found and found.state == "running":
        return found
    see_log = f"the whole log: pi logs {name}{where.flag_for(pod.name)}"
    if found and found.state in ("starting", "unresponsive") and found.hung_s is None:
        phase = f" ({found.phase})" if found.phase else f": {found.cause}" if found.cause else ""
        message = f"{name} is not ready after {screen.seconds(seconds)}; it is {found.state}{phase}"
        raise NotReadyError(
            "not-ready-yet", message, f"it still starts; wait again: pi wait {name}{where.flag_for(pod.name)}"
        )
    if found:
        cause = f": {found.cause}" if found.cause else ""
        raise NotReadyError("not-running", f"{name} does not run; it is {found.state}{cause}", see_log)
    if waited.last_change.startswith("start "):
        failure = explain(waited.log, None)
        cause = f": {failure.cause}" if failure.cause else f" ({waited.last_change})"
        hint = f"{failure.hint}\n  {see_log}" if failure.hint else see_log
        raise NotReadyError(failure.id or "start-failed", f"{name} did not start on {pod.name}{cause}", hint)
    if waited.last_change.startswith("stop "):
        raise InputError("unknown-name", f"no model {name!r} on {pod.name}", "it was stopped; see: pi list")
    raise where.unknown_model(name, pod)
