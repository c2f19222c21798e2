"""Saved conversations: continued, private, and robust against damage."""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pi.prompt import sessions as module
from pi.prompt.history import AssistantMessage, Call, Message, ToolMessage, UserMessage, complete, from_json, to_json
from pi.prompt.sessions import Sessions
from tests.unit.prompt.conftest import Prompt, calls, says

HISTORY: list[Message] = [
    UserMessage("What is in a?\n✅ \x1b[2J"),
    AssistantMessage("", "Hm.", "reasoning_content", (Call("1", "read", '{"file_path": "a"}'),)),
    ToolMessage("1", "read", "Milk", False),
    AssistantMessage("Milk."),
]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "config")


def test_a_conversation_is_saved_and_read_back(sessions: Sessions, tmp_path: Path) -> None:
    session = sessions.new(tmp_path, "m")
    sessions.save(session, HISTORY)
    last = sessions.last(tmp_path)
    assert last == replace(session, first=HISTORY[0].text, messages=4)
    assert sessions.history(last) == HISTORY


def test_files_are_private(sessions: Sessions, tmp_path: Path) -> None:
    os.umask(previous := os.umask(0))
    os.umask(0)
    try:
        sessions.save(sessions.new(tmp_path, "m"), HISTORY)
    finally:
        os.umask(previous)
    saved = tmp_path / "config" / "conversations"
    assert [mode(saved.parent), mode(saved), *map(mode, saved.iterdir())] == [0o700, 0o700, 0o600]


def test_the_last_conversation_is_that_of_the_directory(sessions: Sessions, tmp_path: Path) -> None:
    for number, directory in enumerate(["a", "b", "a", "b"]):
        session = replace(sessions.new(tmp_path / directory, "m"), id=f"20261123-00000{number}-abc")
        sessions.save(session, [UserMessage(str(number))])
    assert [session.first for session in sessions.all()] == ["3", "2", "1", "0"]
    last = sessions.last(tmp_path / "a")
    assert last is not None
    assert last.first == "2"
    assert sessions.last(tmp_path / "c") is None


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]\n", b'{"version": 2}\n', b'{"version": 1}\n', b"\xff\xfe\n", b"null\n", b'"x"\n'],
)
def test_an_unreadable_file_is_skipped(sessions: Sessions, tmp_path: Path, damage: bytes) -> None:
    sessions.save(sessions.new(tmp_path, "m"), HISTORY)
    (tmp_path / "config/conversations/99999999-bad.jsonl").write_bytes(damage)
    assert [session.model for session in sessions.all()] == ["m"]


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        pytest.param(4, 4, id="whole"),
        pytest.param(3, 3, id="without the answer"),
        pytest.param(2, 1, id="a call without its result"),
        pytest.param(0, 0, id="nothing"),
    ],
)
def test_a_cut_conversation_ends_where_it_can_continue(
    sessions: Sessions, tmp_path: Path, lines: int, left: int
) -> None:
    session = sessions.new(tmp_path, "m")
    sessions.save(session, HISTORY)
    path = next((tmp_path / "config/conversations").iterdir())
    head, *messages = path.read_text().splitlines(keepends=True)
    path.write_text(head + "".join(messages[:lines]) + '{"role": "assistant", "te')
    assert sessions.history(session) == HISTORY[:left]


@pytest.mark.parametrize(
    "saved",
    [{}, {"role": "system", "text": "x"}, {"role": "user"}, {"role": "user", "text": "x", "more": 1}, [], None, "x",
     {"role": "assistant", "text": "x", "calls": [{}]}, {"role": "assistant", "text": "x", "calls": 7}],
)  # fmt: skip
def test_an_invalid_message_is_a_value_error(saved: Any) -> None:
    with pytest.raises(ValueError, match=r"not a message|dictionary"):
        from_json(saved)


def test_messages_survive_json() -> None:
    assert [from_json(json.loads(json.dumps(to_json(message)))) for message in HISTORY] == HISTORY


def test_complete_keeps_only_calls_with_results() -> None:
    calls = AssistantMessage("", calls=(Call("1", "ls", ""), Call("2", "ls", "")))
    one, two = (ToolMessage(number, "ls", "", False) for number in "12")
    assert complete([UserMessage("x"), calls, one, two]) == [UserMessage("x"), calls, one, two]
    assert complete([UserMessage("x"), calls, one]) == [UserMessage("x")]
    assert complete([]) == []


def test_the_oldest_conversations_are_deleted(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SAVED", 3)
    for number in range(5):
        sessions.save(
            replace(sessions.new(tmp_path, "m"), id=f"2026112{number}-000000-abc"), [UserMessage(str(number))]
        )
    assert [session.first for session in sessions.all()] == ["4", "3", "2"]


def test_a_full_disk_leaves_the_old_file(sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.new(tmp_path, "m")
    sessions.save(session, HISTORY)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        sessions.save(session, HISTORY[:1])
    assert sessions.history(session) == HISTORY
    assert len(list((tmp_path / "config/conversations").iterdir())) == 1


def test_continue_uses_the_last_conversation_of_this_directory(prompt: Prompt) -> None:
    (prompt.working_dir / "a").write_text("Milk\n")
    prompt.server.answer(calls(("read", {"file_path": "a"})), says("Milk."))
    first = prompt("What is in a?").events[0]
    prompt.server.answer(says("Eggs."))
    second = prompt("And b?", continue_last=True, endpoint=prompt.endpoint(model="other")).events[0]
    assert (second["conversation"], second["continued"]) == (first["conversation"], True)
    sent = prompt.server.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "assistant", "user"]
    (saved,) = Sessions(prompt.config_dir).all()
    assert (saved.model, saved.messages, saved.first) == ("other", 6, "What is in a?")


def test_a_conversation_that_cannot_be_saved_continues(prompt: Prompt) -> None:
    prompt.config_dir.write_text("a file where the directory should be")
    prompt.server.answer(says("Hi"))
    said = prompt("x")
    assert said.code == 0
    assert "cannot save this conversation" in said.of("notice")[0]["text"]


def test_the_order_of_conversations_is_exact_within_a_second(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    for number in range(5):
        sessions.save(sessions.new(tmp_path, "m"), [UserMessage(str(number))])
        time.sleep(0.002)
    assert [session.first for session in sessions.all()] == ["4", "3", "2", "1", "0"]
