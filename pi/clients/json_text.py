"""JSON with or without comments: read it, and add or remove members without touching the rest of the text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_TRIVIA = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)

_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')

_SCALAR = re.compile(r"-?[0-9][0-9.eE+-]*|true|false|null")

INDENT = "  "

DEEPEST = 100
"""Levels of nesting; a real settings file has fewer than ten."""


@dataclass(frozen=True)
class Member:
    """A member of an object: where its key begins, and its value."""

    start: int
    value: Node


@dataclass(frozen=True)
class Node:
    """A value, and its place in the text; `members` are those of an object."""

    value: Any
    start: int
    end: int
    members: Mapping[str, Member] = field(default_factory=dict)


def read(text: str) -> Node:
    """Return the value of a text. Raises ValueError, with the line, if it is not JSON or repeats a key."""
    start = _skip(text, 0)
    found = _value(text, start, 0)
    end = _skip(text, found.end)
    if end < len(text):
        raise _error(text, end, "unexpected text")
    return found


def with_member(text: str, path: Sequence[str], value: Any) -> str:
    """Return the text with one more member, the last of the object at its path; the object must exist."""
    holder = _at(read(text), path[:-1])
    newline = "\r\n" if "\r\n" in text else "\n"
    close = holder.end - 1
    line = _indent_of(text, holder.start)
    inner = line + INDENT
    last = max((member.value.end for member in holder.members.values()), default=holder.start + 1)
    first = min((member.start for member in holder.members.values()), default=None)
    if first is not None and _is_first_on_its_line(text, first):
        inner = _indent_of(text, first)
    is_ended = first is None or text[_skip(text, last) : close][:1] == ","
    body = len(text[:close].rstrip())
    written = f"{json.dumps(path[-1], ensure_ascii=False)}: {_written(value, inner)}".replace("\n", newline)
    before = text[:last] + ("" if is_ended else ",") + text[last:body]
    after = text[body:] if "\n" in text[body:close] else newline + line + text[close:]
    comma = "," if is_ended and first is not None else ""
    return f"{before}{newline}{inner}{written}{comma}{after}"


def without_member(text: str, path: Sequence[str]) -> str:
    """Return the text without a member, and without one of the commas around it; the member must exist."""
    holder = _at(read(text), path[:-1])
    member = holder.members[path[-1]]
    start = len(text[: member.start].rstrip())
    after = _skip(text, member.value.end)
    if text[after] == ",":
        return text[:start] + text[after + 1 :]
    previous = max((each.value.end for each in holder.members.values() if each.start < member.start), default=None)
    comma = None if previous is None else _skip(text, previous)
    rest = text[member.value.end :]
    if comma is None:
        return text[:start] + ("" if text[start - 1] == "{" and rest.lstrip()[:1] == "}" else "\n") + rest.lstrip()
    return text[:comma] + text[comma + 1 : start] + rest


def _at(node: Node, path: Sequence[str]) -> Node:
    for key in path:
        node = node.members[key].value
    return node


def _written(value: Any, indent: str) -> str:
    return json.dumps(value, indent=INDENT, ensure_ascii=False).replace("\n", "\n" + indent)


def _indent_of(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _is_first_on_its_line(text: str, at: int) -> bool:
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()


def _skip(text: str, at: int) -> int:
    """Return where the next token begins, after blanks and comments."""
    found = _TRIVIA.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> Node:
    if depth > DEEPEST:
        raise _error(text, at, "too many levels")
    if text[at : at + 1] == "{":
        return _object(text, at, depth)
    if text[at : at + 1] == "[":
        return _array(text, at, depth)
    found = _STRING.match(text, at) or _SCALAR.match(text, at)
    if not found:
        raise _error(text, at, "a value is missing")
    return Node(_decoded(text, at, found[0]), at, found.end())


def _object(text: str, at: int, depth: int) -> Node:
    members: dict[str, Member] = {}
    place = _skip(text, at + 1)
    while text[place : place + 1] != "}":
        key = _STRING.match(text, place)
        if not key:
            raise _error(text, place, "a key is missing")
        name = _decoded(text, place, key[0])
        if name in members:
            raise _error(text, place, f"the key {key[0][:60]} appears twice")
        colon = _skip(text, key.end())
        if text[colon : colon + 1] != ":":
            raise _error(text, colon, "a colon is missing")
        value = _value(text, _skip(text, colon + 1), depth + 1)
        members[name] = Member(place, value)
        place = _next(text, value.end, "}")
    return Node({name: member.value.value for name, member in members.items()}, at, place + 1, members)


def _array(text: str, at: int, depth: int) -> Node:
    values: list[Any] = []
    place = _skip(text, at + 1)
    while text[place : place + 1] != "]":
        value = _value(text, place, depth + 1)
        values.append(value.value)
        place = _next(text, value.end, "]")
    return Node(values, at, place + 1)


def _next(text: str, end: int, close: str) -> int:
    """Return where the next member begins, or the closing bracket."""
    place = _skip(text, end)
    if text[place : place + 1] == ",":
        return _skip(text, place + 1)
    if text[place : place + 1] != close:
        raise _error(text, place, f"a comma or {close} is missing")
    return place


def _decoded(text: str, at: int, token: str) -> Any:
    try:
        return json.loads(token)
    except ValueError:
        raise _error(text, at, "a value is not valid") from None


def _error(text: str, at: int, problem: str) -> ValueError:
    return ValueError(f"line {text.count(chr(10), 0, at) + 1}: {problem}")
