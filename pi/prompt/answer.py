"""One answer of a model, assembled from the pieces of a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pi.prompt.history import AssistantMessage, Call
from pi.text import well_formed


@dataclass
class PartialCall:
    """A tool call whose fragments arrive one by one."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def add(self, id: Any, name: Any, arguments: Any) -> None:
        """Add a fragment.

        Servers may repeat the id and the name in each, or split the name.
        """
        self.id = self.id or text(id)
        if text(name) != self.name:
            self.name += text(name)
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)
        self.arguments.append(text(arguments))


@dataclass
class Answer:
    """The received part of an answer; `finish` is None until the server sends a reason."""

    texts: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    thinking_field: str = "reasoning"
    calls: dict[str, PartialCall] = field(default_factory=dict)
    finish: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None

    def count(self, usage: Any, tokens_in: str, tokens_out: str) -> None:
        """Take the server's token counts from the named fields."""
        if isinstance(usage, dict):
            self.tokens_in = _number(usage.get(tokens_in))
            self.tokens_out = _number(usage.get(tokens_out))

    def text(self) -> str:
        return well_formed("".join(self.texts))

    def message(self) -> AssistantMessage:
        """Return the whole answer, with new ids for calls without one or with a repeated one."""
        calls: dict[str, Call] = {}
        for number, partial in enumerate(self.calls.values(), 1):
            id = well_formed(partial.id)
            if not id or id in calls:
                id = f"{id or 'call'}-{number}"
            calls[id] = Call(id, well_formed(partial.name), well_formed("".join(partial.arguments)))
        thinking = well_formed("".join(self.thinking))
        return AssistantMessage(self.text(), thinking, self.thinking_field, tuple(calls.values()))


def text(value: Any) -> str:
    """Return `value` if it is text, else an empty text."""
    return value if isinstance(value, str) else ""


def mapping(value: Any) -> dict[str, Any]:
    """Return `value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[dict[str, Any]]:
    """Return the JSON objects in `value` if it is a list, else an empty list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
