"""Ceilings of an answer and of a conversation: no server can fill the memory or the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pi.errors import RemoteError
from pi.prompt.answer import Answer
from pi.prompt.history import AssistantMessage, Message
from pi.prompt.inline_thinking import Piece

ANSWER = 8_000_000
"""Most characters of text and thinking in one answer; a context of a million tokens has about half of that."""

ARGUMENTS = 1_000_000
"""Most characters of the arguments of all calls in one message; pi's tools need a few hundred."""

CALLS = 128
"""Most calls in one message."""

CONVERSATION = 16_000_000
"""Most characters of a conversation, which is sent again with each request and saved as a file."""

HINT = "limit it with --max-tokens, or use another model"


@dataclass
class AnswerMeter:
    """Measures one answer while it arrives. `amount` grows with everything that the model adds to it."""

    answer: Answer
    _characters: int = 0
    _arguments: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each call, how many of its fragments are counted, and their characters."""

    def add(self, pieces: Iterable[Piece]) -> None:
        """Count what one event brought. Raises RemoteError if the answer is over a ceiling."""
        self._characters += sum(len(piece.text) for piece in pieces)
        if self._characters > ANSWER:
            raise RemoteError("ceiling-answer", f"the model's answer is longer than {ANSWER:,} characters", HINT)
        if not self.answer.calls:
            return
        if len(self.answer.calls) > CALLS:
            raise RemoteError("ceiling-calls", f"the model made more than {CALLS} tool calls in one message", HINT)
        for key, call in self.answer.calls.items():
            counted, characters = self._arguments.get(key, (0, 0))
            characters += sum(map(len, call.arguments[counted:]))
            self._arguments[key] = len(call.arguments), characters
        names = sum(len(call.name) + len(call.id) for call in self.answer.calls.values())
        if names + sum(characters for _, characters in self._arguments.values()) > ARGUMENTS:
            raise RemoteError(
                "ceiling-arguments",
                f"the arguments of the model's tool calls are longer than {ARGUMENTS:,} characters",
                HINT,
            )

    def amount(self) -> tuple[int, int, int]:
        fragments = sum(len(call.arguments) for call in self.answer.calls.values())
        return self._characters, len(self.answer.calls), fragments


def check_conversation(history: Sequence[Message]) -> None:
    """Raise RemoteError if a conversation is over its ceiling."""
    if sum(map(_length, history)) > CONVERSATION:
        raise RemoteError(
            "conversation-too-long",
            f"the conversation is longer than {CONVERSATION:,} characters",
            "begin a new one: pi prompt without --continue",
        )


def _length(message: Message) -> int:
    if not isinstance(message, AssistantMessage):
        return len(message.text)
    return len(message.text) + len(message.thinking) + sum(len(call.arguments) for call in message.calls)
