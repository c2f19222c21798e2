"""`cache` on the pod: the models in the hub's cache, what vLLM compiled, and the deletion of one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi.calls.call import Listener, call
from pi.on_pod import cache_shapes as shapes
from pi.on_pod.cache_shapes import CacheAnswer, CacheRequest, RemovedAnswer

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
class CompiledCode:
    """What vLLM compiled for one vLLM, PyTorch, CPU and kind of GPU."""

    name: str
    folder: str
    size_bytes: int
    used_s_ago: float | None
    used_by: tuple[str, ...]
    """Names of the models that run with it."""


@dataclass(frozen=True)
class Cache:
    """The pod's cache of models, the free space on its disk, and compiled code."""

    folder: str
    free_bytes: int
    models: tuple[CachedModel, ...]
    compiled: tuple[CompiledCode, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of all that can be deleted, by name."""
        return {
            **{each.model: each.size_bytes for each in self.models},
            **{e.name: e.size_bytes for e in self.compiled},
        }


@dataclass(frozen=True)
class Removed:
    """A model or a folder of compiled code that is gone."""

    name: str
    size_bytes: int


def read_cache(connection: Connection) -> Cache:
    """Return what the pod's cache has, the largest model first."""
    answered = call(connection, "cache", "listed", CacheRequest(name=None), CacheAnswer)
    models, compiled = map(_model, answered["models"]), map(_compiled, answered["compiled"])
    return Cache(answered["folder"], answered["free_bytes"], tuple(models), tuple(compiled))


def remove_cached(connection: Connection, name: str, listen: Listener) -> Removed:
    """Delete a model or compiled code on the pod. Raises BusyError if it is in use, InputError if it is not there."""
    answered = call(connection, "cache", "remove", CacheRequest(name=name), RemovedAnswer, listen)
    return Removed(answered["model"], answered["size_bytes"])


def _model(answer: shapes.CachedModel) -> CachedModel:
    return CachedModel(
        model=answer["model"],
        size_bytes=answer["size_bytes"],
        unfinished_bytes=answer["unfinished_bytes"],
        used_s_ago=answer["used_s_ago"],
        used_by=tuple(answer["used_by"]),
        fetched_by=tuple(answer["fetched_by"]),
    )


def _compiled(answer: shapes.CompiledCode) -> CompiledCode:
    return CompiledCode(
        name=answer["code"],
        folder=answer["folder"],
        size_bytes=answer["size_bytes"],
        used_s_ago=answer["used_s_ago"],
        used_by=tuple(answer["used_by"]),
    )
