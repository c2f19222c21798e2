"""The commands of the chat, and what is only a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pi.errors import InputError
from pi.prompt import commands
from pi.prompt.history import AssistantMessage, Call, Message, ToolMessage, UserMessage
from tests.unit.prompt.conftest import fails


@dataclass
class Talk:
    history: list[Message] = field(default_factory=list)
    system: str | None = None
    model: str = "m"
    models: tuple[str, ...] = ("m", "other")

    def clear(self) -> None:
        self.history.clear()

    def switch(self, model: str) -> None:
        self.model = model

    def file_name(self) -> str:
        return "talk.md"


@pytest.mark.parametrize(
    "message",
    ["/etc/passwd", "/etc/passwd what is it?", " /help", "/", "//", "a /help", "/2", "/Help", "/exit\nis how one leaves",
     "/clear the stage\nand begin", "/home is full\nwhy?"],
)  # fmt: skip
def test_a_message_may_begin_with_a_slash(message: str) -> None:
    assert commands.answer(message, Talk()) is None


def test_an_unknown_command_is_not_sent() -> None:
    with fails(InputError, "chat-command-unknown", "/home"):
        commands.answer("/home is full", Talk())


@pytest.mark.parametrize("name", commands.ALONE)
def test_a_sentence_that_begins_with_a_command_does_nothing(name: str) -> None:
    talk = Talk([UserMessage("Hi")])
    with fails(InputError, "chat-command-operand", f"/{name} takes nothing after it"):
        commands.answer(f"/{name} codes of bash", talk)
    assert talk.history


def test_each_command_of_the_help_exists() -> None:
    listed = [line.split()[0].strip("/") for line in commands.HELP.splitlines() if line.startswith("/")]
    assert sorted(listed) == sorted([*commands.COMMANDS, "exit"])
    with pytest.raises(commands.Leave):
        commands.answer("/exit", Talk())


def test_commands_change_the_talk() -> None:
    talk = Talk([UserMessage("Hi")])
    assert commands.answer("/system", talk) == "no system message"
    commands.answer("/system Be\nbrief.", talk)
    assert talk.system == "Be\nbrief."
    assert commands.answer("/model", talk) == "m; others: other"
    commands.answer("/model other", talk)
    assert talk.model == "other"
    commands.answer("/clear", talk)
    assert talk.history == []


def test_a_saved_conversation_has_calls_and_results(tmp_path: Path) -> None:
    call = Call("abcdefghi", "ls", '{"path": "."}')
    talk = Talk(
        [UserMessage("Look"), AssistantMessage("", calls=(call,)), ToolMessage("abcdefghi", "ls", "a\nb", False)]
    )
    file = tmp_path / "talk.md"
    assert commands.answer(f"/save {file}", talk) == f"saved as {file}"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == (
        '## You\n\nLook\n\n## Model\n\nCall: `ls {"path": "."}`\n\nResult of `ls`:\n\n    a\n    b\n'
    )


@pytest.mark.parametrize(
    ("name", "id"), [("there", "save-file-exists"), ("link", "save-file-exists"), ("no/x", "save-file-unwritable")]
)
def test_save_replaces_nothing(tmp_path: Path, name: str, id: str) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with fails(InputError, id):
        commands.answer(f"/save {tmp_path / name}", Talk())
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()
