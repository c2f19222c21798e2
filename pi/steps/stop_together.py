"""Stop a model on all of its pods. A pod that is out of reach keeps its part in pods.json until pi has proof."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.calls.status import read_status
from pi.calls.stop import Stopped, stop_models
from pi.errors import BusyError, PiError, UnreachableError
from pi.pods import changes, state
from pi.pods.spans import pods_of
from pi.pods.types import Deployment, Pod, Span
from pi.steps import group, reconcile, spending, where
from pi.steps.group import Asked
from pi.steps.stop_report import show_stopped

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

Parts = Asked[tuple[Stopped, ...]]
"""What a pod stopped, or its error."""

ENDS_WITHIN_S = 30
"""Seconds after which a part without its peers has ended itself (`pi_link.py`), also on a pod that was cut off."""


def stop_everywhere(c: Any, pod: Pod, name: str, known: Span) -> bool:
    """Stop a model on all of its pods, all at the same time; `known` is the span of pods.json, which may be old.

    Returns False, and does nothing, if the pod now has a model of this name that is on no other pod. Raises PiError if
    no pod is reached, or one fails.
    """
    [seen] = group.ask(c, where.Chosen((pod,), True), lambda _, connection: read_status(connection).named(name))
    if seen.answer and seen.answer.deployment.span is None:
        return False
    span = (seen.answer and seen.answer.deployment.span) or known
    lost: list[Parts] = [Asked(pod, error=seen.error)] if seen.error else []
    with changes.change("stop", f"{pod.name}/{name}"):
        asked = lost + _stop(c, pod, name, span, {each.pod.name for each in lost})
        if not any(each.answer for each in asked):
            again = BusyError("span-changed", f"{name} was started again meanwhile", "repeat the command")
            raise next((each.error for each in asked if each.error), again)
        group.raise_failed(_without_gone(name, asked), len(asked))
    return True


def stop_rest(c: Any, stopped: Sequence[Parts]) -> list[Parts]:
    """Stop the parts on other pods of models that these pods have just stopped. Returns the pods that failed."""
    spans = {one.span.group: (each.pod, one) for each in stopped for one in each.answer or () if one.span}
    done, failed = {each.pod.name for each in stopped}, list[Parts]()
    for pod, one in spans.values():
        if one.span:
            asked = _stop(c, pod, one.name, one.span, done)
            failed += [each for each in _without_gone(one.name, asked) if each.error]
    return failed


def _stop(c: Any, pod: Pod, name: str, span: Span, done: Collection[str]) -> list[Parts]:
    """Stop the parts of a model that `pod` has a part of, but ask none of the pods in `done`."""
    known = pods_of(state.load(), pod.name, span)
    for member, place in known.items():
        if place is None:
            screen.note(f"pods.json has no {member}: the part of {name} there ends by itself within {ENDS_WITHIN_S} s")
    pods = tuple(place for place in known.values() if place and place.name not in done)

    asked = group.ask(c, where.Chosen(pods, True), lambda _, connection: stop_part(connection, name, span.group))
    answered = [each for each in asked if each.answer]
    for each in answered:
        for one in each.answer or ():
            show_stopped(one, f"{each.pod.name}: ")
    with where.saving("the stopped parts are still in pods.json", "pi list removes them"):
        for each in answered:
            forget_part(each.pod, name, span.group, each.pod.models.get(name))
    for each in answered:
        if not set(each.pod.models) - {name}:
            screen.note(f"no model is left on {each.pod.name}; the machine {spending.still_bills(each.pod)}")
    return asked


def _without_gone(name: str, asked: Sequence[Parts]) -> list[Parts]:
    """Return the pods that were reached, and print what becomes of the parts on the others."""
    for each in asked:
        if isinstance(each.error, UnreachableError):
            _note_gone(each.pod, name, each.error)
    return [each for each in asked if not isinstance(each.error, UnreachableError)]


def stop_part(connection: Connection, name: str, group: str) -> tuple[Stopped, ...]:
    """Stop the part of one start on a pod. Returns nothing if the pod has another model of its name."""
    found = read_status(connection).named(name)
    is_other = found and (found.deployment.span is None or found.deployment.span.group != group)
    return () if is_other else stop_models(connection, [name], lambda event: None)


def forget_part(pod: Pod, name: str, group: str, old: Deployment | None = None) -> None:
    """Remove the part of one start, or the entry `old`, from pods.json, but not another model of its name."""
    saved = state.load().pods.get(pod.name)
    model = saved.models.get(name) if saved else None
    if model and (model == old or (model.span and model.span.group == group)):
        reconcile.forget(pod, {name})


def _note_gone(pod: Pod, name: str, error: PiError | None) -> None:
    screen.note(f"{error.message if error else pod.name}; the part of {name} there ends by itself")
    screen.note(f"  within {ENDS_WITHIN_S} s; pods.json keeps it until pi list --pod {pod.name} finds it gone")
