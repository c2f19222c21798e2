"""Put a tool call together from the fragments of a stream, also from servers that repeat or mix them."""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from pi.prompt.schema import parsed

ID_LENGTH = 9
"""Characters of an id that pi makes: Mistral's templates take no other length."""

COMPARED = 2000
"""Most fragments of a call that pi reads again to see if the next call begins."""

_LETTERS = string.ascii_letters + string.digits


@dataclass
class PartialCall:
    """A tool call whose fragments arrive one by one."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    id_changes: bool = False
    """Whether its fragments had several ids."""
    has_next_head: bool = False
    """Whether its name came again after whole arguments: the next call of the same tool may follow."""

    def add(self, id: str, name: str, arguments: str, tools: Collection[str] = ()) -> None:
        """Add a fragment.

        Servers may repeat the id and the name in each, or split the name. `tools` are the names that exist.
        """
        self.id_changes = self.id_changes or bool(id and self.id and id != self.id)
        self.id = self.id or id
        self.has_next_head = bool(name) and name == self.name and not arguments and self._is_whole()
        if name == self.name or (name in tools and name.startswith(self.name)):
            self.name = name
        else:
            self.name += name
        if arguments:
            self.arguments.append(arguments)

    def _is_whole(self) -> bool:
        whole = resolved(self.arguments) if 0 < len(self.arguments) <= COMPARED else None
        return whole is not None and not _same(whole, "{}")

    def begins_another(self, id: str, name: str, arguments: str, tools: Collection[str]) -> bool:
        """Return whether a fragment with the same index belongs to the next call, not to this one.

        An id without a name begins nothing: some servers send a new id in each chunk.
        """
        if not name and self.has_next_head:
            return arguments.lstrip().startswith("{")
        new_id = bool(id and self.id and id != self.id)
        if not name or not self.name:
            return False
        if name == self.name:
            return self._is_repeated(arguments, new_id and not self.id_changes)
        if self.name + name in tools or (name in tools and name.startswith(self.name) and not self.arguments):
            return False
        return new_id or bool(self.arguments) or self.name in tools or name in tools

    def _is_repeated(self, arguments: str, new_id: bool) -> bool:
        """Return whether the model calls the same tool once more."""
        begins = arguments.strip()
        if not 0 < len(self.arguments) <= COMPARED or not (new_id or begins.startswith("{")):
            return False
        whole = resolved(self.arguments)
        if whole is None:
            return False
        is_repetition = is_object(begins) and _same(begins, whole)
        return new_id or not (is_repetition or _same(whole, "{}"))

    def whole_arguments(self) -> str:
        """Return the arguments: a JSON object if the fragments allow it, else their text."""
        whole = resolved(self.arguments)
        return "".join(self.arguments) if whole is None else whole


def resolved(fragments: list[str]) -> str | None:
    """Return the text of the JSON object that fragments contain, or None.

    Known faults of servers: the last chunk repeats all arguments, or their end; each chunk has all arguments so
    far; `{` or `{}` comes first; the object is in a JSON string, or its braces are doubled.
    """
    joined = "".join(fragments)
    if is_object(joined):
        return joined
    last = next((text for text in reversed(fragments) if text.strip()), "")
    before = joined.rstrip().removesuffix(last.rstrip()).strip()
    grows = all(last.startswith(text) for text in fragments)
    if is_object(last) and (grows or last.startswith(before) or before in ("{", "{}")):
        return last
    return next(filter(is_object, _repairs(joined.strip())), None)


def _repairs(joined: str) -> Iterator[str]:
    """Yield what a text may have been before a server damaged it."""
    objects, rest = _objects(joined)
    filled = [text for text in objects if not _same(text, "{}")]
    if filled and all(_same(text, filled[0]) for text in filled):
        if filled[0].endswith(rest) or filled[0].startswith(rest):
            yield filled[0]
    elif objects and not filled and not rest:
        yield objects[0]
    if joined.startswith("{{"):
        yield joined[1:]
        yield joined[1:-1]
    if joined.startswith('"'):
        try:
            inner = json.loads(joined)
        except (ValueError, RecursionError):
            return
        if isinstance(inner, str):
            yield inner


def _objects(text: str) -> tuple[list[str], str]:
    """Return the JSON objects at the beginning of a text, and the rest."""
    found: list[str] = []
    position = 0
    while text.startswith("{", position):
        try:
            _, end = json.JSONDecoder().raw_decode(text, position)
        except (ValueError, RecursionError):
            break
        found.append(text[position:end])
        position = _next_character(text, end)
    return found, text[position:]


def _next_character(text: str, position: int) -> int:
    """Return the position of the first character that is not white space."""
    while text[position : position + 1].isspace():
        position += 1
    return position


def is_object(text: str) -> bool:
    """Return whether a text is a JSON object, which empty text is not."""
    try:
        return bool(text.strip() and parsed(text) is not None)
    except ValueError:
        return False


def _same(first: str, second: str) -> bool:
    return bool(json.loads(first) == json.loads(second))


def meant(name: str, tools: Collection[str]) -> str:
    """Return the tool that a name means, without markup that the server left on it, or the name as it is.

    Examples: "ls<|channel|>commentary" (GPT-OSS), "functions.ls:0" (Kimi).
    """
    if name in tools:
        return name
    plain = re.sub(r"^(?:to=)?(?:functions?|tools?|default_api)[.:/]", "", name.strip().strip("\"'`"))
    plain = re.sub(r":\d+$", "", re.split(r"[<(\[{\s]", plain, maxsplit=1)[0])
    return plain if plain in tools else name


def new_id() -> str:
    """Return an id for a call that every server takes back."""
    return "".join(secrets.choice(_LETTERS) for _ in range(ID_LENGTH))


def text_of(arguments: Any) -> str:
    """Return arguments as JSON text; some servers send an object."""
    if isinstance(arguments, dict):
        return json.dumps(arguments)
    return arguments if isinstance(arguments, str) else ""
