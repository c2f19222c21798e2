"""The messages of a conversation, independent of the API."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """A tool call; `arguments` is the model's text, perhaps empty or invalid JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class UserMessage:
    text: str


@dataclass(frozen=True)
class AssistantMessage:
    """An answer; `thinking_field` is the server's name for the thinking, used to send it back."""

    text: str
    thinking: str = ""
    thinking_field: str = "reasoning"
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class ToolMessage:
    """The whole result of a call."""

    call_id: str
    name: str
    text: str
    is_error: bool


Message = UserMessage | AssistantMessage | ToolMessage


def to_json(message: Message) -> dict[str, Any]:
    """Return a message in the form saved on disk."""
    role = {UserMessage: "user", AssistantMessage: "assistant", ToolMessage: "tool"}[type(message)]
    return {"role": role, **asdict(message)}


def from_json(saved: Any) -> Message:
    """Return the message that `to_json` saved. Raises ValueError if it is not one."""
    try:
        fields = dict(saved)
        role = fields.pop("role")
        if role == "user":
            return UserMessage(**fields)
        if role == "tool":
            return ToolMessage(**fields)
        if role == "assistant":
            fields["calls"] = tuple(Call(**call) for call in fields.get("calls", ()))
            return AssistantMessage(**fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a message: {error}") from None
    raise ValueError(f"not a message: role {role!r}")


def complete(messages: list[Message]) -> list[Message]:
    """Return the messages up to the last point where every tool call has its result."""
    open_calls: set[str] = set()
    end = 0
    for position, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            open_calls = {call.id for call in message.calls}
        elif isinstance(message, ToolMessage):
            open_calls.discard(message.call_id)
        if not open_calls:
            end = position + 1
    return messages[:end]
