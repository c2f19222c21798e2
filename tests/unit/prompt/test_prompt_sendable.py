"""Histories in forms that servers accept."""

from __future__ import annotations

import re

from pi.prompt.history import AssistantMessage, Call, Message, ToolMessage, UserMessage
from pi.prompt.sendable import NO_ANSWER, Habits, sendable

TWO_CALLS: list[Message] = [
    UserMessage("Look"),
    AssistantMessage("I will.", calls=(Call("a", "ls", "{}"), Call("call-2", "rg", "broken"))),
    ToolMessage("a", "ls", "x", False),
    ToolMessage("call-2", "rg", "no", True),
    AssistantMessage("Done."),
]


def test_what_goes_to_a_server_is_always_valid() -> None:
    history = [
        *TWO_CALLS,
        UserMessage("Go on"),
        AssistantMessage(" "),
        AssistantMessage("", calls=(Call("b", "", ""),)),
    ]
    system, sent = sendable("s", history, Habits())
    assert system == "s"
    assert [call.arguments for message in sent if isinstance(message, AssistantMessage) for call in message.calls] == [
        "{}"
    ] * 3
    assert sent[6] == AssistantMessage(NO_ANSWER)
    assert sent[7] == AssistantMessage("", calls=(Call("b", "unknown", "{}"),))


def test_calls_go_one_by_one_with_their_results() -> None:
    _, sent = sendable(None, TWO_CALLS * 2, Habits(single_calls=True))
    kinds = [type(message).__name__[:4] for message in sent]
    assert kinds == ["User", "Assi", "Tool", "Assi", "Tool", "Assi"] * 2
    assert [message.text for message in sent[1:4:2]] == ["I will.", ""]


def test_short_ids_stay_pairs() -> None:
    _, sent = sendable(None, TWO_CALLS, Habits(short_ids=True))
    called = [call.id for message in sent if isinstance(message, AssistantMessage) for call in message.calls]
    assert called == [message.call_id for message in sent if isinstance(message, ToolMessage)]
    assert all(re.fullmatch("[A-Za-z0-9]{9}", id) for id in called)


def test_roles_alternate_without_tools_and_system() -> None:
    habits = Habits(system_in_user=True, alternating=True, plain_tools=True)
    system, sent = sendable("s", [*TWO_CALLS, UserMessage("one"), UserMessage("two")], habits)
    assert system is None
    assert [type(message) for message in sent] == [UserMessage, AssistantMessage] * 2 + [UserMessage]
    assert [message.text for message in sent] == [
        "s\n\nLook",
        "I will.\n\nls {}\nrg {}",
        "Result of ls:\nx\n\nResult of rg:\nno",
        "Done.",
        "one\n\ntwo",
    ]
