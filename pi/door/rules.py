"""What the user allows the door: the flags of `pi door`, and the file that declares models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi.door.names import Kept, Served, is_start
from pi.errors import PiError
from pi.pods.types import State
from pi.steps.declared import Declared
from pi.steps.starting import Start

Reader = Callable[[str, Mapping[str, object]], list[Declared]]
"""Reads a file of models for these pods. Raises InputError."""


class File:
    """A file such as pi.toml, which is read again when it has changed."""

    def __init__(self, path: Path, read: Reader) -> None:
        self.path = path
        self.problem = ""
        """Why the door cannot use all of it; the models of the last good text stay."""
        self._read = read
        self._seen: object = None
        self._tables: Kept = {}

    def tables(self, state: State) -> Kept:
        """Return the options of each model, by pod and name."""
        seen = self._signature(), tuple(state.pods)
        if seen != self._seen:
            self._seen = seen
            try:
                self._tables, self.problem = self.read(state)
            except PiError as error:
                self.problem = error.render()
        return self._tables

    def read(self, state: State) -> tuple[Kept, str]:
        """Return what the file says now, and what the door cannot use of it. Raises InputError."""
        tables: dict[str, dict[str, Mapping[str, Any]]] = {}
        secret = []
        for model in self._read(str(self.path), state.pods):
            if is_start(model.start.options):
                tables.setdefault(model.pod, {})[model.name] = model.start.options
            else:
                secret.append(model.place)
        return tables, f"options with a key in them: the door cannot start {', '.join(secret)}" if secret else ""

    def _signature(self) -> object:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


@dataclass(frozen=True)
class Rules:
    """`start_of` returns the start that a model's options describe, and raises InputError."""

    start_of: Callable[[str, Mapping[str, Any]], Start]
    ttl_s: int | None = None
    """Stop models after so many seconds without requests."""
    evict: bool = False
    """Stop models to make room for another one."""
    pinned: tuple[str, ...] = ()
    """Models that the door never stops, as NAME or POD/NAME."""
    file: File | None = None

    def declared(self, state: State) -> Kept:
        return self.file.tables(state) if self.file else {}

    def may_stop(self, model: Served) -> bool:
        """Return whether the door may stop a model: it knows how to start it, and the user did not pin it."""
        own = model.deployment.name
        is_pinned = own in self.pinned or f"{model.pod.name}/{own}" in self.pinned
        return bool(model.options) and not is_pinned and model.name == own

    def idle_s(self, model: Served) -> int | None:
        """Return after how long its pod stops a model that nobody uses; None if it does not."""
        try:
            return self.start_of(model.deployment.name, model.deployment.options).upkeep.idle_s
        except PiError:
            return None
