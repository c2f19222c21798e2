"""Stop a model and start it again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pi import config, screen
from pi.calls.call import progress_to
from pi.calls.stop import stop_models
from pi.planning import catalog, refusals, room, spanning, venvs
from pi.planning.replicas import plan
from pi.planning.types import PodFacts
from pi.pods import changes, state
from pi.pods.types import Pod
from pi.steps import group, measurements, reconcile, replicas, spread, starting, stop_together, together
from pi.steps.asking import facts_for
from pi.steps.group import Asked
from pi.steps.members import all_of, joined
from pi.steps.stop_report import show_stopped

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def require_plan(pod: Pod, connection: Connection, wanted: starting.Start) -> None:
    """Raise PiError if the model could not start after its stop; so it runs on."""
    state.require_writable()
    request, known_models = wanted.request, catalog.load(config.config_dir())

    def facts_without(pod: Pod, connection: Connection) -> PodFacts:
        facts = facts_for(connection, request, known_models)
        refusals.require_gpus(pod.name, pod.gpus, facts)
        own = [each.name for each in facts.deployments if request.name in (each.name, each.replica_of)]
        return replace(room.without(facts, *own), measurements=measurements.load())

    if wanted.across and request.replicas:
        part = spread.shares(request.replicas, wanted.across.pods)[pod.name]
        return require_plan(pod, connection, spread.on_pod(wanted, part, True))
    if across := wanted.across:
        with joined(pod, connection, together.others(pod, across)) as members:
            found = all_of(members, lambda member: facts_without(member.pod, member.connection))
        spanning.plans(request, dict(zip(across.pods, found, strict=True)), known_models)
        return
    facts = facts_without(pod, connection)
    if refusal := venvs.refusal(plan(request, facts, known_models), facts, pod.name):
        raise refusal


def restart(pod: Pod, connection: Connection, wanted: starting.Start, key: str) -> None:
    """Stop a model, if it is on the pod, and start it."""
    name = wanted.request.name
    before = _port(pod, name)
    stop(pod, connection, name)
    try:
        replicas.start(pod, connection, wanted, key)
    finally:
        if before and _port(pod, name) != before:
            for head in spread.unlink(None, {pod.name: {name}}):
                screen.note(f"{head} passes no requests on to {pod.name} now: pi scale {name} NUMBER --pod {head}")


def _port(pod: Pod, name: str) -> int | None:
    model = state.load().pod(pod.name).models.get(name)
    return model.port if model else None


def stop(pod: Pod, connection: Connection, name: str) -> None:
    """Stop a model, on all of its pods, and forget it."""
    saved = state.load().pod(pod.name).models.get(name)
    if saved and saved.span and stop_together.stop_everywhere(None, pod, name, saved.span):
        return
    with changes.change("stop", f"{pod.name}/{name}"), screen.progress() as line:
        stopped = stop_models(connection, [name], progress_to(line.show))
    for each in stopped:
        show_stopped(each)
    reconcile.forget(pod, {name, *(each.name for each in stopped)})
    group.raise_failed(stop_together.stop_rest(None, [Asked(pod, stopped)]))
