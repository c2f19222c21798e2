"""Typed events of a conversation.

`as_json` returns the object that `pi prompt --json` prints on one line: the event's `kind` as `type`, then the
fields of its class. Names and meanings are stable within a `schema` number; new fields and types may be added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

SCHEMA = 1
"""Version of the JSON form, printed in the first event."""


@dataclass(frozen=True)
class Start:
    """The conversation begins or is `continued`; `tools` are the names of the offered tools."""

    kind: ClassVar[str] = "start"
    schema: int
    conversation: str
    model: str
    api: str
    directory: str
    continued: bool
    tools: list[str]


@dataclass(frozen=True)
class TurnStart:
    """Message number `turn` of this run, from 1, is sent to the model."""

    kind: ClassVar[str] = "turn_start"
    turn: int
    text: str


@dataclass(frozen=True)
class Thinking:
    """A piece of the model's reasoning; pieces arrive in order."""

    kind: ClassVar[str] = "thinking"
    text: str


@dataclass(frozen=True)
class Text:
    """A piece of the model's answer."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class ToolCall:
    """The model calls a tool; `arguments` is null if `raw` is not a JSON object."""

    kind: ClassVar[str] = "tool_call"
    id: str
    name: str
    arguments: dict[str, Any] | None
    raw: str


@dataclass(frozen=True)
class ToolResult:
    """The whole result of the call with the same `id`; `is_error` if it failed."""

    kind: ClassVar[str] = "tool_result"
    id: str
    name: str
    text: str
    is_error: bool
    seconds: float


@dataclass(frozen=True)
class Notice:
    """Information for the user; the conversation continues."""

    kind: ClassVar[str] = "notice"
    text: str


@dataclass(frozen=True)
class Error:
    """The turn failed. `id` is the error's stable id, `hint` the next step.

    A `turn_end` with reason "error" follows.
    """

    kind: ClassVar[str] = "error"
    text: str
    hint: str | None
    id: str


@dataclass(frozen=True)
class TurnEnd:
    """The turn is over.

    `reason` is "stop", "length" (the answer reached the token limit), "max_rounds", "loop" (the model made the same
    call again and again), "interrupted", "error", or a server's own finish reason. `text` is only the final answer.
    Token counts are the server's, over all `rounds` (requests) of the turn, and null if it reported none.
    `tokens_per_second` is tokens out, divided by the time from the first token to the last.
    """

    kind: ClassVar[str] = "turn_end"
    reason: str
    text: str
    rounds: int
    tool_calls: int
    tokens_in: int | None
    tokens_out: int | None
    first_token_seconds: float | None
    tokens_per_second: float | None
    seconds: float


Event = Start | TurnStart | Thinking | Text | ToolCall | ToolResult | Notice | Error | TurnEnd


def as_json(event: Event) -> dict[str, Any]:
    """Return the documented JSON form of an event."""
    return {"type": event.kind, **vars(event)}
