"""`cache` on the pod: the models in the hub's cache, what vLLM compiled, and the deletion of one of these."""

from __future__ import annotations

import os
import re
import shutil
import time
from typing import List

from pi.on_pod import audit, cached, compiled, lock, process, reading, records, storage
from pi.on_pod.cache_shapes import CacheAnswer, CachedModel, CacheRequest, CompiledCode, RemovedAnswer
from pi.on_pod.pace import paced
from pi.on_pod.record_shapes import Record
from pi.on_pod.wire import PodError, Wire

PATIENCE_S = 40
"""Seconds for the files of all models, on slow storage."""


def listed(wire: Wire, request: CacheRequest) -> CacheAnswer:
    """Return the models in the hub's cache, the largest first. Raises PodError if storage does not answer."""
    storage.check()
    try:
        return reading.within(paced(PATIENCE_S), _answer)
    except TimeoutError:
        raise PodError("storage", "models cannot be read: no answer within %d s" % PATIENCE_S) from None


@audit.logged("cache rm")
def remove(wire: Wire, request: CacheRequest) -> RemovedAnswer:
    """Delete a model from the cache, or a folder of compiled code, under the lock in which models start.

    Raises PodError if it is not there, or if somebody uses or fetches it.
    """
    storage.check()
    model = str(request["name"])
    with lock.locked(wire):
        folders = compiled.folders().get(model)
        if folders:
            return _remove_compiled(wire, model, folders)
        if model not in cached.models():
            raise PodError("not_cached", "%s is not in the pod's cache" % model)
        living = _living()
        found = _described(model, living)
        if found["used_by"]:
            raise PodError("in_use", "%s is in use by %s" % (model, ", ".join(found["used_by"])))
        if found["fetched_by"]:
            by = ", ".join(map(process.described, found["fetched_by"]))
            raise PodError("in_use", "%s is being fetched by %s" % (model, by))
        own = {pid for record in living for pid in records.living(record)}
        others = [process.described(pid) for pid in cached.programs(model) if pid not in own]
        if others:
            raise PodError("in_use", "%s is in use by %s" % (model, ", ".join(others[:5])))
        repo = cached.folder_of(model)
        if os.path.islink(repo):
            where = os.path.realpath(repo)
            raise PodError("undeletable", "%s is a link to %s, so pi does not delete it" % (model, where))
        wire.progress("deleting %s" % model)
        try:
            cached.remove(repo)
        except OSError as error:
            raise PodError(
                "undeletable", "cannot delete %s: %s: %s" % (model, error.filename, error.strerror)
            ) from None
    return {"model": model, "size_bytes": found["size_bytes"]}


def _remove_compiled(wire: Wire, name: str, folders: List[str]) -> RemovedAnswer:
    found = _compiled(name, folders, _living())
    if found["used_by"]:
        raise PodError("in_use", "%s is in use by %s" % (name, ", ".join(found["used_by"])))
    wire.progress("deleting %s" % name)
    compiled.remove(folders)
    return {"model": name, "size_bytes": found["size_bytes"]}


def _answer() -> CacheAnswer:
    folder, living = storage.hub_cache(), _living()
    models = [_described(model, living) for model in cached.models()]
    return {
        "folder": folder,
        "free_bytes": shutil.disk_usage(storage.existing(folder)).free,
        "models": sorted(models, key=lambda each: -each["size_bytes"]),
        "compiled": [_compiled(name, folders, living) for name, folders in compiled.folders().items()],
    }


def _living() -> List[Record]:
    """Return the records of models that run or start."""
    return [each for each in records.load_all() if records.is_starting(each) or records.living(each)]


def _described(model: str, living: List[Record]) -> CachedModel:
    repo = cached.folder_of(model)
    used = cached.last_use(repo)
    return {
        "model": model,
        "size_bytes": cached.size(repo),
        "unfinished_bytes": cached.size(repo, cached.UNFINISHED),
        "used_s_ago": max(0.0, time.time() - used) if used else None,
        "used_by": [record["name"] for record in living if _uses(record, model)],
        "fetched_by": cached.fetchers(model),
    }


def _compiled(name: str, folders: List[str], living: List[Record]) -> CompiledCode:
    size, used = compiled.described(folders)
    return {
        "code": name,
        "folder": folders[-1],
        "size_bytes": size,
        "used_s_ago": max(0.0, time.time() - used) if used else None,
        "used_by": [record["name"] for record in living if compiled.used_by(record["name"]) == name],
    }


def _uses(record: Record, model: str) -> bool:
    """Return whether a deployment serves a repository, or names it in its command: an adapter or a draft model."""
    command = reading.text(os.path.join(records.folder(record["name"]), "launch.sh"))
    return record["model"] == model or bool(re.search(r"(?<![\w./-])%s(?![\w./-])" % re.escape(model), command))
