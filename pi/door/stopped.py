"""How models that the door stopped are started again: `door/stopped.json` in pi's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pi.door import kept, names
from pi.door.names import Kept
from pi.pods import state

Tables = dict[str, dict[str, Mapping[str, Any]]]


def load() -> Kept:
    """Return the options of each model, by pod and name; empty if the file is damaged."""
    try:
        found = json.loads(_path().read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        pod: {name: table for name, table in models.items() if names.is_start(table)}
        for pod, models in found.items()
        if isinstance(models, dict)
    }


def keep(pod: str, name: str, options: Mapping[str, Any]) -> None:
    """Save how a model is started again. Raises InputError or BusyError if that fails."""
    _change(lambda tables: tables.setdefault(pod, {}).update({name: options}))


def forget(pod: str, name: str) -> bool:
    """Drop a model; return whether it was there."""
    if name not in load().get(pod, {}):
        return False
    _change(lambda tables: tables.get(pod, {}).pop(name, None))
    return True


def forget_pod(pod: str) -> None:
    if pod in load():
        _change(lambda tables: tables.pop(pod, None))


def rename_pod(old: str, new: str) -> None:
    if old in load():
        _change(lambda tables: tables.update({new: tables.pop(old, {})}))


def _change(edit: Callable[[Tables], object]) -> None:
    kept.make_folder()
    fresh = _path().with_suffix(".new")
    try:
        with state.locked(_path().with_suffix(".lock")):
            tables = {pod: dict(models) for pod, models in load().items()}
            edit(tables)
            fresh.unlink(missing_ok=True)
            kept.write_new(fresh, json.dumps(tables, indent=1) + "\n")
            fresh.replace(_path())
    except OSError as error:
        raise kept.unwritable(fresh, error) from None


def _path() -> Path:
    return kept.folder() / "stopped.json"
