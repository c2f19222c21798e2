"""What completion offers for operands and values of flags, by kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pi import config
from pi.clients.definitions import CLIENTS
from pi.model_id import parse_typed
from pi.planning import catalog
from pi.pods import state
from pi.pods.types import Pod


@dataclass(frozen=True)
class Typed:
    """What the user has typed so far: the value of `--pod`, and the operands."""

    pod: str | None
    operands: tuple[str, ...]


def pods(typed: Typed) -> list[str]:
    return list(state.load().pods)


def names(typed: Typed) -> list[str]:
    """Return the models, and their adapters, of the pod that was typed, else of all pods."""
    models = [model for pod in _pods(typed) for model in pod.models.values()]
    return [name for model in models for name in (model.name, *model.adapters)]


def models(typed: Typed) -> list[str]:
    """Return the ids of the catalog, and of the models on the pods."""
    known = [str(model.id) for model in catalog.load(config.config_dir()).models]
    return known + [str(model.model) for pod in _pods(typed) for model in pod.models.values()]


def variants(typed: Typed) -> list[str]:
    """Return the checkpoints of the typed model."""
    if not typed.operands:
        return []
    found = catalog.load(config.config_dir()).find(parse_typed(typed.operands[0]).model)
    return [variant.name for variant in found[0].variants] if found else []


def gpu_counts(typed: Typed) -> list[str]:
    """Return 1, 2, 4, ... up to the GPUs of the pod."""
    most = max((len(pod.gpus) for pod in _pods(typed)), default=0)
    return [str(2**power) for power in range(int(math.log2(most)) + 1)] if most else []


def contexts(typed: Typed) -> list[str]:
    return ["8k", "16k", "32k", "64k", "128k", "256k", "1M"]


def clients(typed: Typed) -> list[str]:
    return list(CLIENTS)


def shares(typed: Typed) -> list[str]:
    return ["30%", "45%", "50%", "90%"]


KINDS: dict[str, Callable[[Typed], list[str]]] = {
    "pod": pods,
    "name": names,
    "model": models,
    "variant": variants,
    "gpus": gpu_counts,
    "context": contexts,
    "memory": shares,
    "client": clients,
}


def _pods(typed: Typed) -> list[Pod]:
    saved = state.load().pods
    return [saved[typed.pod]] if typed.pod in saved else list(saved.values())
