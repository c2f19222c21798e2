"""The commands of the chat: lines that begin with a slash and a word."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pi import redaction
from pi.errors import InputError
from pi.prompt.history import AssistantMessage, Message, UserMessage
from pi.text import one_line

HELP = """\
/help          this list
/clear         begin a new conversation
/system TEXT   replace the system message; without TEXT, show it
/model NAME    talk to another model; without NAME, show the names
/save FILE     write the conversation to a file, as Markdown
/exit          leave (also Ctrl+D)
Enter sends. Alt+Enter, or \\ at the end of a line, begins a new line. Ctrl+C stops an answer.
A line that you type during an answer waits for its end. A message that begins with a space is never a command."""

LEAVING = ("exit", "quit")

ALONE = ("help", "clear", *LEAVING)
"""Commands without an operand, so that a message such as "/exit codes of bash" does not leave."""

_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)


class Talk(Protocol):
    """What the commands work on."""

    history: list[Message]

    @property
    def model(self) -> str:
        """The name of the model."""

    @property
    def models(self) -> Sequence[str]:
        """Names of all models that `switch` takes, if they are known."""

    @property
    def system(self) -> str | None:
        """The system message."""

    @system.setter
    def system(self, text: str) -> None: ...

    def clear(self) -> None:
        """Begin a new conversation."""

    def switch(self, model: str) -> None:
        """Talk to another model. Raises PiError."""

    def file_name(self) -> str:
        """Return a name for a file with the conversation."""


class Leave(Exception):
    """The user leaves the chat."""


def answer(line: str, talk: Talk) -> str | None:
    """Run a command and return what to tell the user, or None if the line is a message.

    Raises Leave for /exit, and PiError if the command fails.
    """
    command = _COMMAND.fullmatch(line.rstrip())
    if command is None:
        return None
    name, operand = command[1], (command[2] or "").strip()
    if "\n" in line.rstrip() and name != "system":
        return None  # a pasted block, not a command
    if operand and name in ALONE:
        raise InputError(
            "chat-command-operand", f"/{name} takes nothing after it", f"type /{name} alone; a space before it sends it"
        )
    if name in LEAVING:
        raise Leave
    if name not in COMMANDS:
        raise InputError(
            "chat-command-unknown", f"unknown command /{name}", "/help lists them; a space before it sends it"
        )
    return COMMANDS[name](talk, operand)


def _help(talk: Talk, operand: str) -> str:
    return HELP


def _clear(talk: Talk, operand: str) -> str:
    talk.clear()
    return "new conversation"


def _system(talk: Talk, operand: str) -> str:
    if operand:
        talk.system = operand
        return "the system message is replaced"
    return talk.system or "no system message"


def _model(talk: Talk, operand: str) -> str:
    if operand:
        talk.switch(operand)
        return f"now talking to {one_line(talk.model)}"
    others = ", ".join(name for name in talk.models if name != talk.model)
    return one_line(talk.model) + (f"; others: {one_line(others)}" if others else "")


def _save(talk: Talk, operand: str) -> str:
    path = Path(operand or talk.file_name()).expanduser()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(redaction.redacted(markdown(talk.history)))
    except FileExistsError:
        raise InputError("save-file-exists", f"{path} exists", "use another name: /save FILE") from None
    except OSError as error:
        raise InputError(
            "save-file-unwritable", f"cannot write {path}: {error.strerror}", "use another name: /save FILE"
        ) from None
    return f"saved as {path}"


def markdown(history: Sequence[Message]) -> str:
    """Return a conversation as Markdown, with the texts as they are."""
    parts = []
    for message in history:
        if isinstance(message, UserMessage):
            parts.append(f"## You\n\n{message.text}")
        elif isinstance(message, AssistantMessage):
            calls = [f"Call: `{call.name} {call.arguments}`" for call in message.calls]
            parts.append("\n\n".join(filter(None, ["## Model", message.text, *calls])))
        else:
            quoted = "\n".join(f"    {line}" for line in message.text.splitlines())
            parts.append(f"Result of `{message.name}`:\n\n{quoted}")
    return "\n\n".join(parts) + "\n"


COMMANDS = {"help": _help, "clear": _clear, "system": _system, "model": _model, "save": _save}
"""The commands by name, except the one that leaves."""
