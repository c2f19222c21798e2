"""Ceilings: each ends the turn with an error that names it, and leaves a conversation that can continue."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pi.errors import PiError
from pi.prompt import ceilings, sessions
from pi.prompt.history import AssistantMessage, Call, Message, ToolMessage, UserMessage
from tests.unit.prompt.conftest import Prompt, Reply, calls, delta, says, sse


@pytest.fixture(autouse=True)
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceilings that a test reaches in milliseconds."""
    monkeypatch.setattr(ceilings, "ANSWER", 10_000)
    monkeypatch.setattr(ceilings, "ARGUMENTS", 5_000)
    monkeypatch.setattr(ceilings, "CALLS", 40)
    monkeypatch.setattr(ceilings, "CONVERSATION", 30_000)


def ended(prompt: Prompt, *replies: Reply) -> tuple[str, str]:
    """Send a message and return id and text of the error; the server must not be asked again."""
    for reply in replies:
        prompt.server.answer(reply)
    with pytest.raises(PiError) as caught:
        prompt("x")
    assert len(prompt.server.requests) == len(replies)
    return caught.value.id, caught.value.message


ENDLESS = {
    "text": [delta(content="a" * 1000)] * 11,
    "thinking": [delta(reasoning="a" * 1000)] * 11,
    "both": [delta(reasoning="a" * 1000), delta(content="a" * 1000)] * 6,
}


@pytest.mark.parametrize("chunks", ENDLESS.values(), ids=ENDLESS)
def test_an_answer_has_a_ceiling(chunks: list[dict[str, Any]], prompt: Prompt) -> None:
    assert ended(prompt, Reply([sse(*chunks, delta("stop"))])) == (
        "ceiling-answer", "the model's answer is longer than 10,000 characters",
    )  # fmt: skip


def test_an_answer_below_the_ceiling_is_whole(prompt: Prompt) -> None:
    prompt.server.answer(says(*["a" * 1000] * 10))
    assert prompt("x").of("turn_end")[0]["text"] == "a" * 10_000


def fragments(count: int, arguments: str) -> Iterator[dict[str, Any]]:
    for number in range(count):
        head = {"id": f"call_{number}", "type": "function", "function": {"name": "ls", "arguments": arguments}}
        yield delta(tool_calls=[{"index": number, **head}])


HEAD = {"index": 0, "id": "c", "type": "function", "function": {"name": "ls", "arguments": ""}}
LONG = {
    "one call in one fragment": [delta(tool_calls=[{**HEAD, "function": {"name": "ls", "arguments": "a" * 5001}}])],
    "one call in many": [delta(tool_calls=[HEAD]),
                         *[delta(tool_calls=[{"index": 0, "function": {"arguments": "a" * 500}}])] * 11],
    "many calls": list(fragments(11, "a" * 500)),
    "a name": [delta(tool_calls=[{**HEAD, "function": {"name": "ls" * 2501, "arguments": ""}}])],
}  # fmt: skip


@pytest.mark.parametrize("chunks", LONG.values(), ids=LONG)
def test_arguments_have_a_ceiling(chunks: list[dict[str, Any]], prompt: Prompt) -> None:
    assert ended(prompt, Reply([sse(*chunks, delta("tool_calls"))])) == (
        "ceiling-arguments", "the arguments of the model's tool calls are longer than 5,000 characters",
    )  # fmt: skip


def test_the_calls_of_a_message_have_a_ceiling(prompt: Prompt) -> None:
    assert ended(prompt, Reply([sse(*fragments(41, "{}"), delta("tool_calls"))])) == (
        "ceiling-calls", "the model made more than 40 tool calls in one message",
    )  # fmt: skip


def test_a_ceiling_ends_the_turn_in_json_too_and_the_conversation_continues(prompt: Prompt) -> None:
    prompt.server.answer(says("Hello"))
    prompt("Hi")
    with pytest.raises(PiError):
        prompt.server.answer(Reply([sse(*ENDLESS["text"], delta("stop"))]))
        prompt("x", continue_last=True)
    prompt.server.answer(says("Yes"))
    prompt("Still there?", continue_last=True)
    sent = prompt.server.requests[-1].body["messages"]
    assert [message["content"] for message in sent[1:]] == ["Hi", "Hello", "Still there?"]


def test_the_conversation_has_a_ceiling(prompt: Prompt) -> None:
    for number in range(3):
        prompt.server.answer(says(*["a" * 1000] * 10))
        prompt("x", continue_last=number > 0)
    with pytest.raises(PiError) as caught:
        prompt("x", continue_last=True)
    assert caught.value.id == "conversation-too-long"
    assert caught.value.message == "the conversation is longer than 30,000 characters"
    assert len(prompt.server.requests) == 3


def test_results_of_calls_count_too(prompt: Prompt) -> None:
    (prompt.working_dir / "f").write_text(f"{'a' * 100}\n" * 160)
    one = calls(("read", {"file_path": "f"}), ("read", {"file_path": "f"}))
    assert ended(prompt, one)[0] == "conversation-too-long"


def test_every_kind_of_message_counts() -> None:
    call = Call("i", "ls", "a" * 7000)
    history: list[Message] = [UserMessage("a" * 8000), AssistantMessage("a" * 8000, "a" * 7001, calls=(call,))]
    with pytest.raises(PiError):
        ceilings.check_conversation(history)
    ceilings.check_conversation([*history[:1], ToolMessage("i", "ls", "a" * 22_000, False)])


def test_a_saved_conversation_that_is_too_large_is_not_read(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt.server.answer(says("Hello"))
    prompt("Hi")
    monkeypatch.setattr(sessions, "FILE_BYTES", 100)
    with pytest.raises(PiError) as caught:
        prompt("x", continue_last=True)
    assert caught.value.id == "conversation-file-too-large"


# --- time without progress


COMMENT = b": keep-alive\n\n"
EMPTY = sse(delta(), done=False)


@pytest.mark.parametrize("idle", [COMMENT, EMPTY, b"\n"], ids=["comments", "empty pieces", "line ends"])
def test_bytes_without_an_answer_are_no_progress(idle: bytes, prompt: Prompt) -> None:
    trickle: list[bytes | float] = [idle, 0.05]
    prompt.server.answer(Reply([sse(delta(content="Well"), done=False), *trickle * 200]))
    began = time.monotonic()
    with pytest.raises(PiError) as caught:
        prompt("x", idle_seconds=0.5)
    assert caught.value.id == "model-stalled" and "no progress for 0.5 s" in caught.value.message
    assert 0.4 < time.monotonic() - began < 6


@pytest.mark.parametrize("idle", [COMMENT, b"\n"], ids=["comments", "line ends"])
def test_bytes_before_the_first_token_do_not_renew_its_time(
    idle: bytes, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pi.prompt.client.FIRST_TOKEN_SECONDS", 0.5)
    prompt.server.answer(Reply([idle, 0.05] * 200))
    with pytest.raises(PiError) as caught:
        prompt("x", idle_seconds=0.3)
    assert caught.value.id == "first-token-timeout"


def test_an_answer_that_arrives_among_comments_is_progress(prompt: Prompt) -> None:
    pieces: list[bytes | float] = []
    for number in range(8):
        pieces += [COMMENT, 0.05, sse(delta(content=str(number)), done=False), 0.1]
    prompt.server.answer(Reply([*pieces, sse(delta("stop"))]))
    assert prompt("x", idle_seconds=0.5).of("turn_end")[0]["text"] == "01234567"


def test_arguments_that_grow_are_progress(prompt: Prompt) -> None:
    arguments = json.dumps({"path": str(prompt.working_dir)})
    pieces: list[bytes | float] = [sse(delta(tool_calls=[HEAD]), done=False)]
    for letter in arguments:
        part = {"index": 0, "function": {"arguments": letter}}
        pieces += [sse(delta(tool_calls=[part]), done=False), 0.03]
    prompt.server.answer(Reply([*pieces, sse(delta("tool_calls"))]))
    prompt.server.answer(says("Done"))
    assert prompt("x", idle_seconds=0.3).of("turn_end")[0]["text"] == "Done"
