"""Add what a client needs to the text of its settings file, and take it out again; the user's text stays as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from pi.clients import json_text

Path = tuple[str, ...]


class Conflict(Exception):
    """The file has another value at a path."""

    def __init__(self, path: Sequence[str]) -> None:
        self.path = ".".join(path)
        super().__init__(self.path)


@dataclass(frozen=True)
class Added:
    """A value that pi added at a path. `text` are the lines of a TOML file that hold it."""

    path: Path
    value: Any
    text: str = ""


@dataclass(frozen=True)
class Merged:
    """The new text, what pi added, and the defaults that stay at another value of the user."""

    text: str
    added: tuple[Added, ...]
    kept: tuple[str, ...] = ()


def parsed(text: str, format: str) -> dict[str, Any]:
    """Return the content of a JSON or TOML file. Raises ValueError if it is invalid or not a table."""
    if format == "toml":
        return tomllib.loads(text)
    value = json_text.read(text if text.strip() else "{}").value
    if not isinstance(value, dict):
        raise ValueError("line 1: it is not an object")
    return value


def merge(text: str, format: str, content: Mapping[str, Any], defaults: Mapping[str, Any]) -> Merged:
    """Add content that must be there, and defaults where the user has none.

    Raises Conflict if the file has another value for content, and ValueError if it is invalid.
    """
    existing = parsed(text, format)
    missing = list(_missing(existing, content, ()))
    kept = tuple(key for key, value in defaults.items() if existing.get(key, value) != value)
    if not kept:  # a model without its provider would be a mixture of two clients
        missing = [*_missing(existing, defaults, ()), *missing]
    added, new = _JOINERS[format](text, missing)
    wanted = _with(existing, missing)
    if not _is_same(new, format, wanted):
        deepest = max((path for path, _ in missing), key=len, default=())
        raise Conflict(deepest[:-1] or deepest)  # a table that cannot be extended where it stands
    return Merged(new, added, kept)


def remove(text: str, format: str, added: Iterable[Added]) -> str:
    """Take out what pi added. Values that are gone are ignored. Raises Conflict if one was changed."""
    existing = parsed(text, format)
    present = [(each, tuple(_present(existing, each.path, each.value))) for each in added]
    present = [(each, paths) for each, paths in present if paths]
    wanted = _without(existing, [path for _, paths in present for path in paths])
    new = _REMOVERS[format](text, present)
    if not _is_same(new, format, wanted):
        raise Conflict(present[0][0].path if present else ())
    return new


def _present(existing: Any, path: Path, value: Any) -> Iterable[Path]:
    """Yield the paths of the largest parts of a value that are still there. Raises Conflict if one was changed."""
    found = _find(existing, path)
    if found is _ABSENT:
        return
    if found == value:
        yield path
    elif isinstance(value, Mapping) and isinstance(found, dict):
        for key, each in value.items():
            yield from _present(existing, (*path, key), each)
    else:
        raise Conflict(path)


def _missing(existing: Any, wanted: Mapping[str, Any], path: Path) -> Iterable[tuple[Path, Any]]:
    """Yield the largest parts of what is wanted that do not exist yet."""
    for key, value in wanted.items():
        place = (*path, key)
        if key not in existing:
            yield place, value
        elif isinstance(value, Mapping) and isinstance(existing[key], dict):
            yield from _missing(existing[key], value, place)
        elif existing[key] != value:
            raise Conflict(place)


_ABSENT = object()


def _find(document: Any, path: Path) -> Any:
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return _ABSENT
        document = document[key]
    return document


def _with(document: Mapping[str, Any], additions: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    new = dict(document)
    for (first, *rest), value in additions:
        new[first] = _with(new.get(first, {}), [(tuple(rest), value)]) if rest else value
    return new


def _without(document: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    new = dict(document)
    for first, *rest in paths:
        if rest:
            new[first] = _without(new[first], [tuple(rest)])
        else:
            del new[first]
    return new


def _is_same(text: str, format: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return parsed(text, format) == wanted
    except ValueError:
        return False


Join = Callable[[str, Sequence[tuple[Path, Any]]], tuple[tuple[Added, ...], str]]


def _join_json(text: str, missing: Sequence[tuple[Path, Any]]) -> tuple[tuple[Added, ...], str]:
    text = text if text.strip() else "{}\n"
    for path, value in missing:
        text = json_text.with_member(text, path, value)
    return tuple(Added(path, value) for path, value in missing), text


def _join_toml(text: str, missing: Sequence[tuple[Path, Any]]) -> tuple[tuple[Added, ...], str]:
    """Put single keys above everything, where they belong to no table, and tables below; lines end as in the text."""
    end = "\r\n" if "\r\n" in text else "\n"
    added = [
        Added(path, value, tomli_w.dumps(_with({}, [(path, value)])).replace("\n", end)) for path, value in missing
    ]
    above = "".join(each.text for each in added if not isinstance(each.value, Mapping))
    below = "".join(f"{end}{each.text}" for each in added if isinstance(each.value, Mapping))
    text = text if text.endswith("\n") or not text else text + end
    return tuple(added), (above + (end if above and text else "") + text + below).lstrip("\r\n")


_JOINERS: dict[str, Join] = {"json": _join_json, "toml": _join_toml}


Cut = Callable[[str, Sequence[tuple[Added, tuple[Path, ...]]]], str]


def _cut_json(text: str, present: Sequence[tuple[Added, tuple[Path, ...]]]) -> str:
    for path in reversed([path for _, paths in present for path in paths]):
        text = json_text.without_member(text, path)
    return text


def _cut_toml(text: str, present: Sequence[tuple[Added, tuple[Path, ...]]]) -> str:
    for each, _ in present:
        if text.count(each.text) != 1:
            raise Conflict(each.path)
        text = text.replace(each.text, "")
    return text.lstrip("\r\n")


_REMOVERS: dict[str, Cut] = {"json": _cut_json, "toml": _cut_toml}
