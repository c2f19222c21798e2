"""`pi scale`: change how many replicas a model has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pi.errors import InputError
from pi.fabric_tasks.flags import operand
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.start_options import options_of, replicas_of
from pi.fabric_tasks.verb import verb
from pi.pods.types import Pod, check_name
from pi.steps import keys, replicas, where
from pi.steps.starting import Start


@dataclass(frozen=True)
class ScaleOptions(PodOptions):
    name: str = operand("NAME", "a model that was started with --replicas", required=True, completes="name")
    number: str = operand("NUMBER", "how many replicas it should have", required=True)


@verb(ScaleOptions, examples=("pi scale qwen 6", "pi scale qwen 2 -p dc1"))
def scale(c: Any, options: ScaleOptions) -> None:
    """Add or remove replicas of a model; those that leave answer their requests first, and dead ones are replaced."""
    name, number, key = check_name(options.name, "model"), replicas_of(options.number), keys.api_key()
    with where.targeted(c, options.pod) as (pod, connection):
        replicas.scale(pod, connection, _start_of(pod, name), number, key)


def _start_of(pod: Pod, name: str) -> Start:
    """Return the start of a model with replicas. Raises InputError if pods.json does not have it."""
    model = pod.models.get(name)
    if model and model.span:
        raise InputError("no-replicas", f"{name} is one model over several pods", "it has no replicas to change")
    if model is None or "replicas" not in model.options:
        names = ", ".join(each.name for each in pod.models.values() if "replicas" in each.options) or "none"
        raise InputError(
            "no-replicas",
            f"{name} was not started with --replicas on {pod.name}" if model else f"no model {name!r} on {pod.name}",
            f"models with replicas: {names}; if another machine started one, pi list adds it",
        )
    return replace(options_of(name, model.options).start(), detach=False)
