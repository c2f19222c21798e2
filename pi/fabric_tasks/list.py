"""`pi list`: the models on a pod."""

from __future__ import annotations

import time
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
        began = time.monotonic()
        with screen.progress() as line:
            line.run("  asking the pod", screen.clock_since(began), quiet=True)
            status = read_status(connection)
        host = connection.host
    _warn(pod, status)
    if status.found or pod.models:
        screen.table(states.rows(pod, status, host), states.HEADERS)
    else:
        screen.say(f"no models on {pod.name}; start one: pi start MODEL --name NAME")
    for found in status.found:
        states.show_last_lines(found)
    reconcile.reconcile(pod, status)


def _warn(pod: Pod, status: Status) -> None:
    """Print what is wrong with the pod itself."""
    if gpus.is_silent(status.unread_gpus) and pod.gpus:
        screen.note(f"warning: cannot read the GPUs: {status.unread_gpus[0]}")
    for warning in gpus.lost(pod.gpus, status.gpus, status.unread_gpus):
        screen.note(f"warning: {warning}")
    if status.storage:
        screen.note(f"warning: cannot reach the models' storage: {status.storage}")
