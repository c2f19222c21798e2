"""What happens in a conversation, as typed events.

`as_json` gives the form that `pi prompt --json` prints, one object per line. Every object has a `type`, which
is the event's `kind` below, and the fields of its class under their own names. Names and meanings stay as
they are within a `schema` number; new fields and new types may be added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

SCHEMA = 1
"""Version of the JSON form, told by the first event."""


@dataclass(frozen=True)
class Start:
    """The conversation begins, or is taken up again (`continued`). `tools` names what the model may call."""

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
    """The user's message number `turn` of this run, counted from 1, goes to the model."""

    kind: ClassVar[str] = "turn_start"
    turn: int
    text: str


@dataclass(frozen=True)
class Thinking:
    """A piece of the model's reasoning; the pieces of one stretch follow each other."""

    kind: ClassVar[str] = "thinking"
    text: str


@dataclass(frozen=True)
class Text:
    """A piece of the model's answer."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class ToolCall:
    """The model calls a tool. `arguments` is null when `raw`, what it wrote, is not a JSON object."""

    kind: ClassVar[str] = "tool_call"
    id: str
    name: str
    arguments: dict[str, Any] | None
    raw: str


@dataclass(frozen=True)
class ToolResult:
    """What the model is told about the call with the same `id`, whole; `is_error` when it failed."""

    kind: ClassVar[str] = "tool_result"
    id: str
    name: str
    text: str
    is_error: bool
    seconds: float


@dataclass(frozen=True)
class Notice:
    """Something the user should know; the conversation goes on."""

    kind: ClassVar[str] = "notice"
    text: str


@dataclass(frozen=True)
class Error:
    """The turn failed; `hint` says what to do next. A `turn_end` with reason "error" follows."""

    kind: ClassVar[str] = "error"
    text: str
    hint: str | None


@dataclass(frozen=True)
class TurnEnd:
    """The turn is over.

    `reason` is "stop", "length" (the token limit cut the answer), "max_rounds", "interrupted" or "error"; a
    server's own finish reason may stand there too. `text` is the final answer alone. Token counts are the
    server's, over all `rounds` (requests) of the turn, and null when it told none. `tokens_per_second` is
    tokens out over the time from the first token to the last.
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
    """The documented JSON form of an event."""
    return {"type": event.kind, **vars(event)}
