"""Stop a model on all of its pods. A pod that is out of reach keeps its part in pods.json until pi has proof."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.calls.status import read_status
from pi.calls.stop import Stopped, stop_models
from pi.errors import PiError, UnreachableError
from pi.pods import changes, state
from pi.pods.spans import pods_of
from pi.pods.types import Pod, Span
from pi.steps import group, reconcile, spending, where
from pi.steps.stop_report import show_stopped

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

ENDS_WITHIN_S = 30
"""Seconds after which a part without its peers has ended itself (`pi_link.py`), also on a pod that was cut off."""


def stop_everywhere(c: Any, pod: Pod, name: str, span: Span) -> None:
    """Stop a model on all of its pods, all at the same time. Raises PiError if none is reached, or one fails."""
    with changes.change("stop", f"{pod.name}/{name}"):
        _stop(c, pod, name, span)


def stop_rest(c: Any, pod: Pod, stopped: Sequence[Stopped]) -> None:
    """Stop the parts on other pods of models that a pod has just stopped. Raises PiError."""
    for each in stopped:
        if each.span:
            _stop(c, pod, each.name, each.span, done=pod.name)


def _stop(c: Any, pod: Pod, name: str, span: Span, done: str = "") -> None:
    """Stop the parts of a model that `pod` has a part of, too; that of the pod `done` is stopped already."""
    known = pods_of(state.load(), pod.name, span)
    for member, place in known.items():
        if place is None:
            screen.note(f"pods.json has no {member}: the part of {name} there ends by itself within {ENDS_WITHIN_S} s")
    pods = tuple(place for place in known.values() if place and place.name != done)

    asked = group.ask(c, where.Chosen(pods, True), lambda _, connection: stop_part(connection, name, span.group))
    for each in asked:
        for one in each.answer or ():
            show_stopped(one, f"{each.pod.name}: ")
    answered = [each for each in asked if each.answer is not None]
    with where.saving("the stopped parts are still in pods.json", "pi list removes them"):
        for each in answered:
            forget_part(each.pod, name, span.group)
    for each in answered:
        if not set(each.pod.models) - {name}:
            screen.note(f"no model is left on {each.pod.name}; the machine {spending.still_bills(each.pod)}")
    if not answered and asked and asked[0].error:
        raise asked[0].error
    gone = [each for each in asked if isinstance(each.error, UnreachableError)]
    for each in gone:
        _note_gone(each.pod, name, each.error)
    group.raise_failed([each for each in asked if each not in gone], len(asked))


def stop_part(connection: Connection, name: str, group: str) -> tuple[Stopped, ...]:
    """Stop the part of one start on a pod, but not another model of its name."""
    found = read_status(connection).named(name)
    is_other = found and (found.deployment.span is None or found.deployment.span.group != group)
    return () if is_other else stop_models(connection, [name], lambda event: None)


def forget_part(pod: Pod, name: str, group: str) -> None:
    """Remove the part of one start from pods.json, but not another model of its name."""
    saved = state.load().pods.get(pod.name)
    model = saved.models.get(name) if saved else None
    if model and (model.span is None or model.span.group != group):
        return
    reconcile.forget(pod, {name})


def _note_gone(pod: Pod, name: str, error: PiError | None) -> None:
    screen.note(f"{error.message if error else pod.name}; the part of {name} there ends by itself")
    screen.note(f"  within {ENDS_WITHIN_S} s; pods.json keeps it until pi list --pod {pod.name} finds it gone")
