"""The models that the door serves, by the names that requests use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pi.door.refusals import Refused
from pi.pods.types import Deployment, Pod, State

Kept = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Options of the models that the door stopped, by pod and name, as pods.json had them."""


@dataclass(frozen=True)
class Served:
    """A model on a pod. `id` is its name at the door, `name` what its own server calls it."""

    id: str
    name: str
    pod: Pod
    deployment: Deployment
    state: Literal["running", "starting", "stopped"]

    @property
    def place(self) -> tuple[str, str]:
        """The pod and the model's own name there; its adapters have the same."""
        return self.pod.name, self.deployment.name

    @property
    def options(self) -> Mapping[str, Any]:
        """How the door can start it, by the flags of `pi start`; empty if that is unknown."""
        return self.deployment.options if is_start(self.deployment.options) else {}

    def __str__(self) -> str:
        return f"{self.deployment.name} on {self.pod.name}"


def served(state: State, kept: Kept) -> list[Served]:
    """Return every model and adapter, those of the active pod first.

    A name that several pods have becomes POD/NAME.
    """
    pods = sorted(state.pods.values(), key=lambda pod: pod.name != state.active)
    found = [(pod, model, name) for pod in pods for model in _models(pod, kept) for name in _names(model)]
    counts = Counter(name for _, _, name in found)
    return [
        Served(name if counts[name] == 1 else f"{pod.name}/{name}", name, pod, model, _state(pod, model))
        for pod, model, name in found
    ]


def find(models: list[Served], wanted: str) -> Served:
    """Return the model of a request's `model`: a name, POD/NAME, or a model id.

    If several fit, one that runs, then one of the active pod. Raises Refused.
    """
    for fits in (
        lambda each: wanted in (each.id, f"{each.pod.name}/{each.name}"),
        lambda each: wanted == each.name,
        lambda each: wanted == each.deployment.model,
    ):
        if fitting := [each for each in models if fits(each)]:
            return min(fitting, key=lambda each: ORDER.index(each.state))
    names = ", ".join(each.id for each in models) or "none"
    raise Refused(404, "model_not_found", f"no model {wanted[:200]!r}; the door has {names}")


def is_start(table: object) -> bool:
    """Return whether a table of options describes a start."""
    if not isinstance(table, dict) or not isinstance(table.get("model"), str):
        return False
    return all(isinstance(table.get(key, []), list) for key in LISTS)


LISTS = ("lora", "vllm")
"""Flags with several values that the door reads or writes."""

ORDER = ("running", "starting", "stopped")


def _models(pod: Pod, kept: Kept) -> list[Deployment]:
    stopped = kept.get(pod.name, {})
    gone = [_stopped(name, options) for name, options in stopped.items() if name not in pod.models]
    return [*(model for model in pod.models.values() if not model.replica_of), *gone]


def _stopped(name: str, options: Mapping[str, Any]) -> Deployment:
    adapters = tuple(str(text).partition("=")[0] for text in options.get("lora", []))
    return Deployment(name, str(options["model"]), 0, (), 0, adapters=adapters, options=dict(options))


def _names(model: Deployment) -> list[str]:
    return [model.name, *model.adapters]


def _state(pod: Pod, model: Deployment) -> Literal["running", "starting", "stopped"]:
    return model.status if model.name in pod.models else "stopped"
