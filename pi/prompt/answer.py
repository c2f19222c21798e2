"""One answer of a model, assembled from the pieces of a stream."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from pi.prompt.events import Text, Thinking
from pi.prompt.fragments import PartialCall, meant, new_id
from pi.prompt.history import AssistantMessage, Call
from pi.prompt.inline_thinking import Piece, Splitter
from pi.text import well_formed

ENDED = ("stop", "tool_calls", "function_call")
"""Finish reasons of an answer that ended by itself."""


@dataclass
class Answer:
    """The received part of an answer; `finish` is None until the server sends a reason.

    `tools` are the names of the offered tools. `inline` separates thinking that is inside the text.
    """

    tools: Collection[str] = ()
    texts: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    thinking_field: str = "reasoning"
    calls: dict[str, PartialCall] = field(default_factory=dict)
    finish: str | None = None
    problem: str = ""
    """What the server says about a bad end."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    inline: Splitter = field(default_factory=Splitter)
    inline_thinking: list[str] = field(default_factory=list)

    def count(self, usage: Any, tokens_in: str, tokens_out: str) -> None:
        """Take the server's token counts from the named fields."""
        if isinstance(usage, dict):
            self.tokens_in = _number(usage.get(tokens_in))
            self.tokens_out = _number(usage.get(tokens_out))

    def add_thinking(self, thinking: str) -> list[Piece]:
        self.thinking.append(thinking)
        return [Thinking(thinking)]

    def add_text(self, text: str) -> list[Piece]:
        """Add a piece of text, and return what is certain to be text or thinking."""
        return self._add(self.inline.feed(text))

    def close(self) -> list[Piece]:
        """Return the pieces that were held back. Call this when the stream ends."""
        pieces = self._add(self.inline.flush())
        if self.inline.assumed and self.inline.inside and self.finish in ENDED:
            self.texts, self.inline_thinking = self.inline_thinking + self.texts, []
            self.inline = Splitter()
            return [Text("".join(self.texts))] if self.texts else []
        return pieces

    def _add(self, pieces: list[Piece]) -> list[Piece]:
        shown: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, Text):
                self.texts.append(piece.text)
            elif isinstance(piece, Thinking):
                self.inline_thinking.append(piece.text)
            else:
                thought, self.texts = self.texts, []
                self.inline_thinking += thought
                if not "".join(thought).strip():
                    continue
            shown.append(piece)
        return shown

    def text(self) -> str:
        """Return the text without the thinking inside it."""
        text = well_formed("".join(self.texts))
        return text.lstrip() if self.inline_thinking or self.inline.end else text

    def message(self) -> AssistantMessage:
        """Return the whole answer, with new ids for calls without one or with a repeated one."""
        calls: dict[str, Call] = {}
        for partial in self._meant_calls():
            id = well_formed(partial.id)
            if not id or id in calls:
                id = new_id()
            calls[id] = Call(id, well_formed(meant(partial.name, self.tools)), well_formed(partial.whole_arguments()))
        thinking = well_formed("".join([*self.thinking, *self.inline_thinking]))
        return AssistantMessage(self.text(), thinking, self.thinking_field, tuple(calls.values()))

    def _meant_calls(self) -> Iterator[PartialCall]:
        """Yield the calls without those that a server sent again.

        It may repeat a whole call at the same index, or send the head of a call at another index than the rest.
        """
        seen: set[tuple[str, str, str, str]] = set()
        for key, call in self.calls.items():
            others = (other for other in self.calls.values() if other is not call and call.id and other.id == call.id)
            again = any(other.name == call.name and other.arguments for other in others)
            whole = (key.partition("/")[0], call.id, call.name, call.whole_arguments())
            if whole not in seen and (call.arguments or not again):
                yield call
            seen.add(whole)
            seen.add((whole[0], "", *whole[2:]))


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
