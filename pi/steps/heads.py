"""The pod that answers the requests of a model over several pods."""

from __future__ import annotations

from typing import Any

from pi import screen
from pi.pods import state
from pi.pods.spans import head_of
from pi.steps import where


def pod_for(c: Any, pod_name: str | None, name: str | None) -> str | None:
    """Return the pod to use for a model: the one given, unless it has a part behind the head of another one."""
    saved = state.load()
    if name is None or (pod_name and "," in pod_name) or not saved.pods:
        return pod_name
    pod = where.chosen(c, pod_name)
    model = pod.models.get(name)
    if model is None or model.span is None or not model.rank:
        return pod_name
    head = head_of(saved, pod.name, model.span)
    screen.note(f"{pod.name} has rank {model.rank} of {name}; its head on {head} answers")
    return head
