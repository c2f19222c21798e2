"""`cache` on the pod: the models in the hub's cache, and the deletion of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import Listener, call
from pi.on_pod import cache_shapes as shapes
from pi.on_pod.cache_shapes import CacheAnswer, CacheRequest

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class CachedModel:
    """A repository in the pod's cache."""

    model: str
    size_bytes: int
    unfinished_bytes: int
    """Of these, the files of downloads that did not end."""
    used_s_ago: float | None
    used_by: tuple[str, ...]
    """Names of the models that run with it."""
    fetched_by: tuple[int, ...]
    """Processes that download it."""


@dataclass(frozen=True)
class Cache:
    """The pod's cache of models, and the free space on its disk."""

    folder: str
    free_bytes: int
    models: tuple[CachedModel, ...]


def read_cache(connection: Connection) -> Cache:
    """Return what the pod's cache has, the largest model first."""
    answered = call(connection, "cache", "listed", CacheRequest(name=None), CacheAnswer)
    return Cache(answered["folder"], answered["free_bytes"], tuple(map(_model, answered["models"])))


def remove_cached(connection: Connection, model: str, listen: Listener) -> CachedModel:
    """Delete a model from the pod's cache. Raises BusyError if it is in use, InputError if it is not there."""
    return _model(call(connection, "cache", "remove", CacheRequest(name=model), shapes.CachedModel, listen))


def _model(answer: shapes.CachedModel) -> CachedModel:
    return CachedModel(
        model=answer["model"],
        size_bytes=answer["size_bytes"],
        unfinished_bytes=answer["unfinished_bytes"],
        used_s_ago=answer["used_s_ago"],
        used_by=tuple(answer["used_by"]),
        fetched_by=tuple(answer["fetched_by"]),
    )
