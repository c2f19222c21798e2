"""The models on a pod's disk as `pi cache` shows them."""

from __future__ import annotations

from collections.abc import Sequence

from pi import screen
from pi.calls.cache import Cache, CachedModel
from pi.steps.group import Asked
from pi.steps.machine_json import CacheJson

HEADERS = ("MODEL", "SIZE", "LAST USE", "USED BY")


def show(asked: Sequence[Asked[Cache]]) -> None:
    """Print the table of the pods that answered, then the sum and the free space of each."""
    found = [(each.pod.name, each.answer) for each in asked if each.answer]
    is_alone = len(asked) == 1
    rows = [(() if is_alone else (pod,)) + row(model) for pod, cache in found for model in cache.models]
    if rows:
        screen.table(rows, HEADERS if is_alone else ("POD", *HEADERS), shrink="MODEL", below="USED BY")
    for pod, cache in found:
        total = screen.gib(sum(model.size_bytes for model in cache.models))
        screen.say(f"{total} of models on {pod}, {screen.gib(cache.free_bytes)} free, in {cache.folder}")


def row(model: CachedModel) -> tuple[str, ...]:
    size, used = screen.gib(model.size_bytes), model.used_s_ago
    if model.unfinished_bytes:
        size += f", {screen.gib(model.unfinished_bytes)} of it unfinished"
    users = [*model.used_by, *(f"a download (pid {pid})" for pid in model.fetched_by[:1])]
    return model.model, size, "never" if used is None else screen.ago(used), ", ".join(users)


def as_json(pod: str, cache: Cache) -> CacheJson:
    return {
        "pod": pod,
        "folder": cache.folder,
        "free_bytes": cache.free_bytes,
        "models": [
            {
                "model": model.model,
                "size_bytes": model.size_bytes,
                "unfinished_bytes": model.unfinished_bytes,
                "used_seconds_ago": model.used_s_ago,
                "used_by": list(model.used_by),
                "fetched_by_pids": list(model.fetched_by),
            }
            for model in cache.models
        ],
    }
