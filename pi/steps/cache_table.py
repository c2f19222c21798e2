"""The models on a pod's disk, and what vLLM compiled, as `pi cache` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from pi import screen
from pi.calls.cache import Cache, CachedModel, CompiledCode
from pi.steps.group import Asked
from pi.steps.machine_json import CacheJson

HEADERS = ("MODEL", "SIZE", "LAST USE", "USED BY")

COMPILED_HEADERS = ("COMPILED CODE", *HEADERS[1:])


def show(asked: Sequence[Asked[Cache]]) -> None:
    """Print what pods answered: a table of models, the sum and the free space of each, then compiled code."""
    found = [(each.pod.name, each.answer) for each in asked if each.answer]
    several = len(asked) > 1
    _table(HEADERS, [(pod, row(model)) for pod, cache in found for model in cache.models], several)
    for pod, cache in found:
        total = screen.gigabytes(sum(model.size_bytes for model in cache.models))
        screen.say(f"{total} of models on {pod}, {screen.gigabytes(cache.free_bytes)} free, in {cache.folder}")
    compiled = [(pod, compiled_row(code)) for pod, cache in found for code in cache.compiled]
    if compiled:
        screen.say()
        _table(COMPILED_HEADERS, compiled, several)
        folders = sorted({str(PurePosixPath(code.folder).parent) for _, cache in found for code in cache.compiled})
        screen.say(f"pi cache rm NAME deletes compiled code; it is in {', '.join(folders)}")


def _table(headers: tuple[str, ...], rows: Sequence[tuple[str, tuple[str, ...]]], several: bool) -> None:
    if rows:
        cells = [(pod, *each) if several else each for pod, each in rows]
        screen.table(cells, ("POD", *headers) if several else headers, below="USED BY")


def row(model: CachedModel) -> tuple[str, ...]:
    size, used = screen.gigabytes(model.size_bytes), model.used_s_ago
    if model.unfinished_bytes:
        size += f", {screen.gigabytes(model.unfinished_bytes)} of it unfinished"
    users = [*model.used_by, *(f"a download (pid {pid})" for pid in model.fetched_by[:1])]
    return model.model, size, "never" if used is None else screen.ago(used), ", ".join(users)


def compiled_row(code: CompiledCode) -> tuple[str, ...]:
    used = "never" if code.used_s_ago is None else screen.ago(code.used_s_ago)
    return code.name, screen.gigabytes(code.size_bytes), used, ", ".join(code.used_by)


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
        "compiled": [
            {
                "name": each.name,
                "folder": each.folder,
                "size_bytes": each.size_bytes,
                "used_seconds_ago": each.used_s_ago,
                "used_by": list(each.used_by),
            }
            for each in cache.compiled
        ],
    }
