"""`pi list`: the models on a pod."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.calls.status import Status, read_status
from pi.fabric_tasks.verb import verb
from pi.pods import gpus
from pi.pods.types import Pod
from pi.steps import reconcile, states, where
from pi.steps.request import POD


@verb("", "[--pod P]", name="list", details=POD)
def list_models(c: Any, pod: str | None = None) -> None:
    """List the models of the pod with their true state; what turns out to be gone is forgotten."""
    with where.targeted(c, pod) as (place, link):
        status = read_status(link)
        host = link.host
    _warn(place, status)
    if status.found or place.models:
        screen.table(states.rows(place, status, host), states.HEADERS)
    else:
        screen.say(f"no models on {place.name}; start one: pi start MODEL --name NAME")
    for found in status.found:
        states.tell_end(found)
    reconcile.reconcile(place, status)


def _warn(place: Pod, status: Status) -> None:
    """What is wrong with the pod itself."""
    for words in gpus.lost(place.gpus, status.gpus, status.unread_gpus):
        screen.note(f"warning: {words}")
    if status.storage:
        screen.note(f"warning: models cannot be reached: {status.storage}")
