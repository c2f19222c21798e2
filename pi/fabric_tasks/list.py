"""`pi list`: the models on a pod."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.calls.status import Status, read_status
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.verb import verb
from pi.pods import gpus
from pi.pods.types import Pod
from pi.steps import reconcile, states, where


@verb(PodOptions, name="list")
def list_models(c: Any, options: PodOptions) -> None:
    """List the pod's models and their current state."""
    with where.targeted(c, options.pod) as (pod, connection):
        status = read_status(connection)
        host = connection.host
    _warn(pod, status)
    if status.names or pod.models:
        screen.table(states.rows(pod, status, host), states.HEADERS)
    else:
        screen.say(f"no models on {pod.name}; start one: pi start MODEL --name NAME")
    for found in status.found:
        states.show_last_lines(found)
    reconcile.reconcile(pod, status)


def _warn(pod: Pod, status: Status) -> None:
    """Print what is wrong with the pod itself."""
    for warning in gpus.lost(pod.gpus, status.gpus, status.unread_gpus):
        screen.note(f"warning: {warning}")
    if status.full:
        screen.note(f"warning: the pod's disk is full ({status.full}); logs and starts fail until you free space")
    if status.storage:
        screen.note(f"warning: cannot reach the models' storage: {status.storage}")
