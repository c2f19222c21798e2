"""Stop a model and start it again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pi import config, screen
from pi.calls.call import progress_to
from pi.calls.stop import stop_models
from pi.planning import catalog, refusals, room, venvs
from pi.planning.replicas import plan
from pi.planning.types import Request
from pi.pods import changes, state
from pi.pods.types import Pod
from pi.steps import measurements, reconcile, replicas, starting
from pi.steps.asking import facts_for
from pi.steps.stop_report import show_stopped

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def require_plan(pod: Pod, connection: Connection, request: Request) -> None:
    """Raise PiError if the model could not start after its stop; so it runs on."""
    state.require_writable()
    known_models = catalog.load(config.config_dir())
    facts = facts_for(connection, request, known_models)
    refusals.require_gpus(pod.name, pod.gpus, facts)
    own = [each.name for each in facts.deployments if request.name in (each.name, each.replica_of)]
    facts = replace(room.without(facts, *own), measurements=measurements.load())
    if refusal := venvs.refusal(plan(request, facts, known_models), facts, pod.name):
        raise refusal


def restart(pod: Pod, connection: Connection, wanted: starting.Start, key: str) -> None:
    """Stop a model, if it is on the pod, and start it."""
    stop(pod, connection, wanted.request.name)
    replicas.start(pod, connection, wanted, key)


def stop(pod: Pod, connection: Connection, name: str) -> None:
    """Stop a model and forget it."""
    with changes.change("stop", f"{pod.name}/{name}"), screen.progress() as line:
        stopped = stop_models(connection, [name], progress_to(line.show))
    for each in stopped:
        show_stopped(each)
    reconcile.forget(pod, {name, *(each.name for each in stopped)})
