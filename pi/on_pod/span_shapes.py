"""Shapes of what must be equal on all pods of one model (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import Dict, Optional, TypedDict

from pi.on_pod.shapes import Repository


class SpanRequest(TypedDict):
    """`venv` is the folder of the vLLM that serves the model, `address` one that the user gave for this pod."""

    model: Repository
    venv: str
    address: Optional[str]


class SpanAnswer(TypedDict):
    """What a pod has.

    `versions` are those of packages, `environment` digests of the values of vLLM's variables. `weights` identifies the
    files of the model, None if they are not here. `interface` has the given address, "" if none has it.
    `storage` names the network storage of the hub's cache, "" if it is on a disk of the pod.
    """

    versions: Dict[str, str]
    environment: Dict[str, str]
    weights: Optional[str]
    interface: str
    machine: str
    storage: str
