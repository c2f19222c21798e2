"""`doctor` on the pod: the hub's token, and what earlier work left behind."""

from __future__ import annotations

from typing import Dict

from pi.on_pod import cached, hub, reading, storage
from pi.on_pod.doctor_shapes import DoctorAnswer
from pi.on_pod.pace import paced
from pi.on_pod.wire import Wire

PATIENCE_S = 20
"""Seconds for the cache on slow storage, and for the hub."""


def doctor(wire: Wire, request: Dict[str, str]) -> DoctorAnswer:
    """Return the state of the hub's token and the leftovers of downloads. Changes nothing."""
    left: Dict[str, int] = {}
    if storage.trouble() is None:
        try:
            left = reading.within(paced(PATIENCE_S), _abandoned)
        except TimeoutError:
            left = {}  # the check of the storage reports it
    return {"token": hub.token_state(), "unfinished_bytes": sum(left.values()), "abandoned": sorted(left)}


def _abandoned() -> Dict[str, int]:
    """Return the bytes of unfinished files by model, of models that nobody fetches."""
    sizes = {model: cached.size(cached.folder_of(model), cached.UNFINISHED) for model in cached.models()}
    return {model: size for model, size in sizes.items() if size and not cached.fetchers(model)}
