"""The models that the door serves, by the names that requests use."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from pi.door.refusals import Refused
from pi.pods.types import Deployment, Pod, State

Kept = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Options of models, by pod and name, as pods.json or pi.toml has them."""

MOST_NAMES = 20
"""How many models the door names in an error."""


@dataclass(frozen=True)
class Served:
    """A model on a pod. `id` is its name at the door, `name` what its own server calls it."""

    id: str
    name: str
    pod: Pod
    deployment: Deployment
    state: Literal["running", "starting", "stopped"]
    options: Mapping[str, Any] = field(default_factory=dict)
    """How the door starts it next, by the flags of `pi start`; empty if that is unknown."""

    @property
    def place(self) -> tuple[str, str]:
        """The pod and the model's own name there; its adapters have the same."""
        return self.pod.name, self.deployment.name

    def __str__(self) -> str:
        return f"{self.deployment.name} on {self.pod.name}"


def served(state: State, kept: Kept, declared: Kept | None = None) -> list[Served]:
    """Return every model and adapter, those of the active pod first.

    `kept` are models that the door stopped, `declared` those of a file, which says how they start next. A name that
    several pods have becomes POD/NAME. A model that moves counts once: on its old pod until the new one is ready.
    """
    pods = sorted(state.pods.values(), key=lambda pod: pod.name != state.active)
    hidden, tables = _hidden(state), declared or {}
    models = [(pod, model) for pod in pods for model in _models(pod, kept.get(pod.name, {}), tables.get(pod.name, {}))]
    shown = [
        (pod, model, name) for pod, model in models if (pod.name, model.name) not in hidden for name in _names(model)
    ]
    behind = _behind(state)
    counts = Counter(name for pod, model, name in shown if (pod.name, model.name) not in behind)
    return [
        Served(
            id=name if counts[name] == 1 else f"{pod.name}/{name}",
            name=name,
            pod=pod,
            deployment=model,
            state=_state(pod, model),
            options=_options(model, tables.get(pod.name, {})),
        )
        for pod, model, name in shown
    ]


def listed(models: list[Served]) -> list[Served]:
    """Return each model once: replicas on several pods are one."""
    return list({each.id: each for each in reversed(models)}.values())[::-1]


def _behind(state: State) -> set[tuple[str, str]]:
    """Return pod and name of replicas that are on another pod than the first of their model."""
    return {
        (other, model.name)
        for pod in state.pods.values()
        for model in pod.models.values()
        if "replicas" in model.options
        for other in str(model.options.get("across", "")).split(",")
        if other != pod.name and other in state.pods and model.name in state.pods[other].models
    }


def leaving(state: State) -> list[tuple[str, str]]:
    """Return pod and name of models that have moved, and that still answer earlier requests."""
    return [
        (pod.name, model.name)
        for pod in state.pods.values()
        for model in pod.models.values()
        if model.move and model.move.is_done
    ]


def find(models: list[Served], wanted: str, session: bytes = b"", tried: Collection[tuple[str, str]] = ()) -> Served:
    """Return the model of a request's `model`: a name, POD/NAME, or a model id.

    If several fit, one that runs, then one of the active pod. Of replicas on several pods, the conversation decides,
    but those that were `tried` come last. Raises Refused.
    """
    for fits in (
        lambda each: wanted in (each.id, f"{each.pod.name}/{each.name}"),
        lambda each: wanted == each.name,
        lambda each: wanted == each.deployment.model,
    ):
        if fitting := [each for each in models if fits(each)]:
            best = min(fitting, key=lambda each: (ORDER.index(each.state), each.place in tried))
            same = [each for each in fitting if (each.id, each.name, each.state) == (best.id, best.name, best.state)]
            return _of_pods([each for each in same if each.place not in tried] or same, session)
    raise Refused(404, "model_not_found", f"no model {wanted[:200]!r}; {_nearest(models, wanted)}")


def _of_pods(same: list[Served], session: bytes) -> Served:
    """Return a pod's replicas: of those to which no other one passes requests on, the conversation's own."""
    reached = {pod for each in same for pod in each.deployment.elsewhere}
    own = [each for each in same if each.pod.name not in reached] or same
    return max(own, key=lambda each: hashlib.sha256(session + each.pod.name.encode()).digest())


def _nearest(models: list[Served], wanted: str) -> str:
    ids = [each.id for each in models]
    names = {word.lower(): word for each in models for word in (each.id, each.name, each.deployment.model)}
    short = wanted[:200].lower().partition(":")[0]
    close = get_close_matches(short, names, 1) or get_close_matches(short.rpartition("/")[2], names, 1)
    more = f" and {len(ids) - MOST_NAMES} more" if len(ids) > MOST_NAMES else ""
    known = f"the door has {', '.join(ids[:MOST_NAMES]) or 'none'}{more}"
    return f"did you mean {names[close[0]]!r}? {known}" if close else known


def is_start(table: object) -> bool:
    """Return whether a table of options describes a start."""
    if not isinstance(table, dict) or not isinstance(table.get("model"), str):
        return False
    return all(isinstance(table.get(key, []), list) for key in LISTS)


LISTS = ("address", "lora", "vllm")
"""Flags with several values that the door reads or writes."""

ORDER = ("running", "starting", "stopped")


def _hidden(state: State) -> set[tuple[str, str]]:
    """Return pod and name of the side of each move that gets no requests: the new one, until the move is done."""
    moves = [(pod.name, model.name, model.move) for pod in state.pods.values() for model in pod.models.values()]
    return {(pod if move.is_done else move.to, name) for pod, name, move in moves if move}


def _models(
    pod: Pod, kept: Mapping[str, Mapping[str, Any]], declared: Mapping[str, Mapping[str, Any]]
) -> list[Deployment]:
    stopped = {**kept, **declared}
    gone = [_stopped(name, options) for name, options in stopped.items() if name not in pod.models]
    return [*(model for model in pod.models.values() if not model.is_part), *gone]


def _stopped(name: str, options: Mapping[str, Any]) -> Deployment:
    adapters = tuple(str(text).partition("=")[0] for text in options.get("lora", []))
    return Deployment(name, str(options["model"]), 0, (), 0, adapters=adapters, options=dict(options))


def _options(model: Deployment, declared: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    options = declared.get(model.name, model.options)
    return options if is_start(options) else {}


def _names(model: Deployment) -> list[str]:
    return [model.name, *model.adapters]


def _state(pod: Pod, model: Deployment) -> Literal["running", "starting", "stopped"]:
    return model.status if model.name in pod.models else "stopped"
