"""The interactive chat: each message is a turn, Ctrl+C stops an answer, Ctrl+D leaves."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from pi import redaction
from pi.errors import Interrupted, PiError, Signalled
from pi.prompt import commands
from pi.text import safe

if TYPE_CHECKING:
    from pi.prompt.line_editor import LineEditor

CTRL_C_CODE = 130
"""The exit code of an `Interrupted` by Ctrl+C, which ends only the answer."""

WELCOME = "Ctrl+C stops an answer, Ctrl+D leaves. /help lists the commands."


class Talk(commands.Talk, Protocol):
    """A conversation with a model, and what its commands need."""

    def turn(self, message: str) -> None:
        """Send a message, show the answer and save the conversation. Raises PiError."""


class Reader(Protocol):
    """Reads messages from the user."""

    def read(self) -> str:
        """Return the next message. Raises EOFError if the user leaves, KeyboardInterrupt after Ctrl+C."""

    def answering(self) -> contextlib.AbstractContextManager[None]:
        """Return a context for the time in which the model answers."""


def editor(stdin: TextIO, stdout: TextIO, history_file: Path) -> LineEditor:
    """Return an editor of lines; its package is needed only in a chat."""
    from pi.prompt.line_editor import LineEditor

    return LineEditor(stdin, stdout, history_file)


def chat(talk: Talk, reader: Reader, stderr: TextIO, greeting: str) -> None:
    """Read messages until the user leaves. After a failed turn the chat continues.

    `greeting` is the first sentence on the screen.

    Raises:
        Signalled: after a signal other than Ctrl+C's.
    """
    stderr.write(f"{greeting}. {WELCOME}\n")
    stderr.flush()
    while (message := _message(reader, stderr)) is not None:
        if not message.strip():
            continue
        try:
            if (told := commands.answer(message, talk)) is None:
                with reader.answering():
                    talk.turn(message)
            else:
                _tell(stderr, told)
        except commands.Leave:
            return
        except PiError as error:
            if isinstance(error, Interrupted) and error.exit_code != CTRL_C_CODE:
                raise
            stderr.write(redaction.redacted(error.render()) + "\n")


def _tell(stderr: TextIO, text: str) -> None:
    stderr.write(safe(redaction.redacted(text)) + "\n")
    stderr.flush()


def _message(reader: Reader, stderr: TextIO) -> str | None:
    """Return the next message, or None if the user leaves. Ctrl+C discards what is typed."""
    while True:
        try:
            return reader.read()
        except EOFError:
            return None
        except KeyboardInterrupt as stop:
            if isinstance(stop, Signalled):
                raise
