"""Which pods of pods.json serve a model together. Another pi may have given them other names."""

from __future__ import annotations

from dataclasses import replace

from pi.pods.types import Deployment, Pod, Span, State


def pods_of(state: State, own: str, span: Span) -> dict[str, Pod | None]:
    """Return the pods of a model by the names that its start gave them; None for one that pods.json lacks.

    `own` is the pod that has this part. The machine's id decides if both sides know it, else the name.
    """
    found: dict[str, Pod | None] = {}
    for rank, name in enumerate(span.members):
        machine = span.machines[rank] if rank < len(span.machines) else ""
        same = [pod for pod in state.pods.values() if machine and pod.machine == machine]
        named = state.pods.get(name)
        is_other = bool(named and machine and named.machine)
        found[name] = state.pods.get(own) if rank == span.rank else same[0] if same else None if is_other else named
    return found


def head_of(state: State, own: str, span: Span) -> str:
    """Return the name of the pod that answers the requests."""
    head = pods_of(state, own, span)[span.head]
    return head.name if head else span.head


def with_own_names(state: State, own: str, model: Deployment) -> Deployment:
    """Return a model whose pods have the names that pods.json gives them."""
    span = model.span
    if span is None:
        return model
    names = tuple(pod.name if pod else name for name, pod in pods_of(state, own, span).items())
    return replace(model, span=replace(span, members=names)) if len(set(names)) == len(names) else model
