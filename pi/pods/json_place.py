"""Find the line of a value in a JSON text, for messages about files that people edit."""

from __future__ import annotations

import json
import re

Place = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""

_BLANK = re.compile(r"[ \t\r\n]*")

_DECODER = json.JSONDecoder()


def dotted(place: Place) -> str:
    """Return the place as text, such as "pods.dc1.gpus.0.id"; the whole document is ""."""
    return ".".join(map(str, place))


def line_of(text: str, place: Place) -> int:
    """Return the line, from 1, on which a value of a valid JSON text begins.

    If the value does not exist, return the line of the nearest value that should contain it.
    """
    at = _after_blank(text, 0)
    for step in place:
        child = _member(text, at, step) if text[at] == "{" else _element(text, at, step) if text[at] == "[" else None
        if child is None:
            break
        at = child
    return text.count("\n", 0, at) + 1


def _member(text: str, at: int, key: str | int) -> int | None:
    """Return where the value of a key begins, in the object at this position."""
    while text[at] != "}":
        at = _after_blank(text, at + 1)
        if text[at] == "}":
            break
        name, end = _DECODER.raw_decode(text, at)
        value = _after_blank(text, _after_blank(text, end) + 1)
        if name == key:
            return value
        at = _past(text, value)
    return None


def _element(text: str, at: int, index: str | int) -> int | None:
    """Return where an element begins, in the list at this position."""
    count = 0
    while text[at] != "]":
        at = _after_blank(text, at + 1)
        if text[at] == "]":
            break
        if count == index:
            return at
        at = _past(text, at)
        count += 1
    return None


def _past(text: str, value: int) -> int:
    """Return the position of the comma or bracket after a value."""
    return _after_blank(text, _DECODER.raw_decode(text, value)[1])


def _after_blank(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at
