"""Bring a history into a form that a server accepts: always valid, and as its chat template wants it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pi.prompt.fragments import ID_LENGTH, is_object
from pi.prompt.history import AssistantMessage, Call, Message, ToolMessage, UserMessage

NO_ANSWER = "(no answer)"
"""Stands for an empty answer of an older conversation, which some servers refuse."""


@dataclass(frozen=True)
class Habits:
    """What one server wants, as its refusals showed.

    `max_tokens` is the longest answer that fits. `plain_tools` writes calls and results as plain text.
    """

    system_in_user: bool = False
    alternating: bool = False
    single_calls: bool = False
    short_ids: bool = False
    plain_tools: bool = False
    max_completion_tokens: bool = False
    max_tokens: int | None = None


def sendable(system: str | None, history: Sequence[Message], habits: Habits) -> tuple[str | None, list[Message]]:
    """Return the system message, if the server takes one, and the messages to send."""
    messages = list(map(_valid, history))
    if habits.plain_tools:
        messages = list(map(_plain, messages))
    if habits.single_calls:
        messages = _single_calls(messages)
    if habits.short_ids:
        messages = list(map(_with_short_ids, messages))
    if habits.system_in_user and system:
        messages, system = _with_system(system, messages), None
    if habits.alternating:
        messages = _alternating(messages)
    return system, messages


def _valid(message: Message) -> Message:
    """Return a message whose calls every server can read: arguments as a JSON object, a plain name."""
    if not isinstance(message, AssistantMessage):
        return message
    if not message.calls and not message.text.strip():
        return replace(message, text=NO_ANSWER)
    return replace(message, calls=tuple(map(_valid_call, message.calls)))


def _valid_call(call: Call) -> Call:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", call.name)[:64] or "unknown"
    return Call(call.id, name, call.arguments if is_object(call.arguments) else "{}")


def _plain(message: Message) -> Message:
    if isinstance(message, ToolMessage):
        return UserMessage(f"Result of {message.name}:\n{message.text}")
    if isinstance(message, AssistantMessage) and message.calls:
        calls = "\n".join(f"{call.name} {call.arguments}" for call in message.calls)
        return AssistantMessage("\n\n".join(filter(None, [message.text, calls])))
    return message


def _single_calls(messages: list[Message]) -> list[Message]:
    """Give each call a message of its own, followed by its result."""
    sent: list[Message] = []
    open_calls: list[AssistantMessage] = []
    for message in messages:
        if isinstance(message, AssistantMessage) and len(message.calls) > 1:
            first, *others = (replace(message, calls=(call,)) for call in message.calls)
            open_calls = [first, *(replace(other, text="") for other in others)]
        elif isinstance(message, ToolMessage) and open_calls:
            sent += [open_calls.pop(0), message]
        else:
            sent.append(message)
    return sent


def _with_short_ids(message: Message) -> Message:
    if isinstance(message, ToolMessage):
        return replace(message, call_id=_short(message.call_id))
    if isinstance(message, AssistantMessage) and message.calls:
        return replace(message, calls=tuple(replace(call, id=_short(call.id)) for call in message.calls))
    return message


def _short(id: str) -> str:
    if re.fullmatch(rf"[A-Za-z0-9]{{{ID_LENGTH}}}", id):
        return id
    return hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()[:ID_LENGTH]


def _with_system(system: str, messages: list[Message]) -> list[Message]:
    if messages and isinstance(messages[0], UserMessage):
        return [UserMessage(f"{system}\n\n{messages[0].text}"), *messages[1:]]
    return [UserMessage(system), *messages]


def _alternating(messages: list[Message]) -> list[Message]:
    """Join neighbours of the same role; calls stay apart from their results."""
    sent: list[Message] = []
    for message in messages:
        last = sent[-1] if sent else None
        if isinstance(message, UserMessage) and isinstance(last, UserMessage):
            sent[-1] = UserMessage(f"{last.text}\n\n{message.text}")
        elif isinstance(message, AssistantMessage) and isinstance(last, AssistantMessage) and not last.calls:
            sent[-1] = replace(message, text="\n\n".join(filter(None, [last.text, message.text])))
        else:
            sent.append(message)
    return sent
