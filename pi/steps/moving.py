"""Move a model to another pod: start it there, let requests go there, and stop it here after its last request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pi import screen
from pi.calls.wait import wait_for
from pi.errors import BusyError, InputError
from pi.pods import changes, state
from pi.pods.types import Move, Pod, State
from pi.steps import declared, listing, reconcile, replicas, restarting, where
from pi.steps.draining import drain
from pi.steps.reports import WaitReport
from pi.steps.starting import Start
from pi.steps.waiting import require_ready
from pi.text import count

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class Moving:
    """A model that moves from one pod to another, as `wanted` starts it."""

    source: Pod
    target: Pod
    wanted: Start
    key: str
    drain_s: int
    """How long its last requests may take."""
    through_door: Callable[[], int]
    """Returns how many requests go to the source through the door of this machine."""

    @property
    def name(self) -> str:
        return self.wanted.request.name

    def command(self) -> str:
        return f"pi move {self.name} {self.target.name} --from {self.source.name}"


def move(c: Any, moving: Moving) -> None:
    """Move a model. If a step fails, the model still runs where it was, and pi says so. Raises PiError."""
    name, source, target = moving.name, moving.source.name, moving.target.name
    try:
        with where.connected(c, moving.target, named=True) as there:
            _bring_up(moving, there)
        _let_requests_go_there(moving)
    except BaseException:
        _set_move(moving, None)
        screen.note(f"{name} still runs on {source}; to try again: {moving.command()}")
        raise
    screen.say(f"requests for {name} go to {target} now")
    try:
        with where.connected(c, moving.source, named=True) as here:
            left = drain(here, name, moving.drain_s, moving.through_door)
            if left:
                screen.note(
                    f"{count(left, 'request')} did not end in {screen.seconds(moving.drain_s)}; pi stops {name} anyway"
                )
            restarting.stop(moving.source, here, name)
    except BaseException:
        screen.note(f"{name} runs on {target}, and on {source} too; to stop it there: {moving.command()}")
        raise
    screen.say(f"moved {name} from {source} to {target}")


def _bring_up(moving: Moving, there: Connection) -> None:
    """Have the model run on the new pod; it may run or start there already, by an earlier move."""
    doing = _found(moving, there)
    if moving.wanted.request.replicas and doing in ("runs", "starts"):
        replicas.scale(moving.target, there, moving.wanted, moving.wanted.request.replicas, moving.key)
    if doing == "runs":
        return
    _set_move(moving, Move(moving.target.name))
    if doing == "starts":
        began, report = time.monotonic(), WaitReport()
        try:
            waited = wait_for(there, moving.name, None, report.hear)
        finally:
            report.end()
        found = require_ready(moving.target, moving.name, waited, time.monotonic() - began)
        reconcile.adopt(moving.target, [found.deployment])
        return
    if doing == "ended":
        restarting.stop(moving.target, there, moving.name)
    replicas.start(moving.target, there, moving.wanted, moving.key)


def _found(moving: Moving, there: Connection) -> Literal["runs", "starts", "ended", "nothing"]:
    """Return what the new pod has by this name. Raises BusyError if that is another model."""
    pod, name = moving.target, moving.name
    status = listing.see(pod, there).status
    reconcile.reconcile(pod, status)
    found = status.named(name)
    if found is None:
        return "nothing"
    if found.state in declared.ENDED:
        return "ended"
    options = reconcile.with_kept_options(found.deployment, state.load().pod(pod.name).models.get(name)).options
    if declared.differences(options, moving.wanted.options):
        hint = f"rename or stop it: pi stop {name} --pod {pod.name}"
        raise BusyError("move-name-taken", f"{pod.name} already has another model called {name}", hint)
    return "runs" if found.state == "running" else "starts"


def _let_requests_go_there(moving: Moving) -> None:
    """Flip the entries of pods.json in one change. Raises InputError if the new one is missing."""
    name = moving.name

    def edit(before: State) -> State:
        if name not in before.pod(moving.target.name).models:
            raise InputError("move-lost", f"{name} is not on {moving.target.name} any more", "see: pi list --all-pods")
        return _with_move(before, moving, Move(moving.target.name, is_done=True))

    state.change(edit)
    changes.note("move", f"{moving.source.name}/{name} to {moving.target.name}")


def _set_move(moving: Moving, move: Move | None) -> None:
    state.change(lambda before: _with_move(before, moving, move))


def _with_move(before: State, moving: Moving, move: Move | None) -> State:
    pod = before.pods.get(moving.source.name)
    model = pod.models.get(moving.name) if pod else None
    return before.with_pod(pod.with_model(replace(model, move=move))) if pod and model else before
