"""Compare the models that a file declares with those that run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pi.calls.status import Found, Status
from pi.errors import PiError
from pi.pods.types import Pod
from pi.steps.reconcile import with_kept_options
from pi.steps.starting import Start

Kind = Literal["start", "restart", "keep", "cannot"]
"""What pi does with a model; "cannot" if the user has to act first."""

ENDED = {"crashed": "it crashed", "rebooted": "a reboot stopped it", "idle": "nobody used it"}
"""States of a model that does not run, and how it ended."""

OF_A_START = ("timeout",)
"""Options that a running model does not have."""


@dataclass(frozen=True)
class Declared:
    """A model of a file: its pod, its name and how it starts."""

    pod: str
    name: str
    start: Start

    @property
    def place(self) -> str:
        return f"{self.pod}/{self.name}"


@dataclass(frozen=True)
class Step:
    """What pi does with a model, and why."""

    model: Declared
    kind: Kind
    why: str

    def __str__(self) -> str:
        return f"{self.kind:8}{self.model.place}: {self.why}"


@dataclass(frozen=True)
class Failed:
    """A model that did not come up or end, and why."""

    model: Declared
    error: PiError


Describes = Callable[[str, Mapping[str, Any], Start], bool]
"""Whether the options of a running model, by its name, mean the same as a start."""


def with_parts(models: Sequence[Declared], pods: Collection[str]) -> list[Declared]:
    """Return the models, and those of them with replicas on several of these pods once for each pod."""
    found = {model.place: model for model in models}
    for model in models:
        across = model.start.across.pods if model.start.across and model.start.request.replicas else ()
        for part in (replace(model, pod=pod) for pod in across if pod in pods):
            found.setdefault(part.place, part)
    return list(found.values())


def is_on(model: Declared, status: Status, *, is_declared: bool) -> bool:
    """Return whether a model is on its pod; if the file does not declare it there, only one with replicas counts."""
    found = status.named(model.name)
    return model.name in status.names if is_declared else bool(found and found.servers is not None)


def step_of(model: Declared, pod: Pod, status: Status, describes: Describes) -> Step:
    """Return what brings a pod to the declared state of one model."""
    if any(each.name == model.name for each in status.unrecorded):
        return Step(model, "cannot", f"its record on the pod is damaged; first: pi stop {model.name} --pod {pod.name}")
    found = status.named(model.name)
    if found is None:
        return Step(model, "start", f"{model.start.request.model} does not run")
    if found.state in ENDED:
        return Step(model, "restart" if found.left else "start", f"{ENDED[found.state]}{_cause(found)}")
    runs = with_kept_options(found.deployment, pod.models.get(model.name)).options
    return _step_of_living(model, found, runs, describes)


def _step_of_living(model: Declared, found: Found, runs: Mapping[str, Any], describes: Describes) -> Step:
    if not runs:
        return Step(model, "keep", f"it is {found.state}; an older pi started it, so pi cannot compare its options")
    changed = differences(runs, model.start.options)
    if changed and not describes(model.name, runs, model.start):
        return Step(model, "restart", ", ".join(changed))
    return Step(model, "keep", f"it is {found.state}, as declared")


def _cause(found: Found) -> str:
    return f": {found.cause}" if found.cause else ""


def differences(runs: Mapping[str, Any], declared: Mapping[str, Any]) -> list[str]:
    """Return what differs, such as "context is 32k, declared 64k"."""
    keys = [key for key in dict.fromkeys([*runs, *declared]) if key not in OF_A_START]
    return [
        f"{key} is {_shown(runs.get(key))}, declared {_shown(declared.get(key))}"
        for key in keys
        if runs.get(key) != declared.get(key)
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "on" if value is True else str(value)


def undeclared(models: Sequence[Declared], pod: Pod, status: Status) -> list[str]:
    """Return the models that run on a pod and that the file does not name."""
    names = {
        each.name
        for each in models
        if each.pod == pod.name or pod.name in str(each.start.options.get("across", "")).split(",")
    }
    return sorted(
        each.deployment.name
        for each in status.found
        if each.deployment.name not in names and not each.deployment.is_part
    )


def export(pod: Pod, status: Status) -> tuple[dict[str, Any], list[str]]:
    """Return the tables of the models that run on a pod, and the names of those whose options are unknown."""
    tables, unknown = dict[str, Any](), []
    for found in status.found:
        model = found.deployment
        if found.state in ENDED or model.is_part:
            continue
        options = with_kept_options(model, pod.models.get(model.name)).options
        tables[model.name] = dict(options) or {"model": model.model, **({"private": True} if model.private else {})}
        unknown += [] if options else [model.name]
    return tables, unknown
