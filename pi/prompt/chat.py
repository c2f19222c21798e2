"""The interactive chat: a line is a message, Ctrl+C stops an answer, Ctrl+D leaves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TextIO

from pi import redaction
from pi.errors import PiError
from pi.prompt.agent import Agent

HISTORY_LINES = 1000

WELCOME = "Ctrl+C stops an answer, Ctrl+D leaves."


def chat(agent: Agent, history_file: Path, stderr: TextIO, after_turn: Callable[[], None]) -> None:
    """Reads messages from the terminal until Ctrl+D. A turn that fails is told, and the chat goes on.

    Raises:
        KeyboardInterrupt: after a signal other than Ctrl+C's; its number is the exception's argument.
    """
    stderr.write(WELCOME + "\n")
    with _line_editing(history_file):
        while (message := _message(stderr)) is not None:
            if not message.strip():
                continue
            try:
                agent.turn(message)
            except PiError as error:
                stderr.write(redaction.redacted(error.render()) + "\n")
            finally:
                after_turn()


def _message(stderr: TextIO) -> str | None:
    """The next line; None when the user leaves. Ctrl+C drops what was typed."""
    while True:
        try:
            return input("> ")
        except EOFError:
            stderr.write("\n")
            return None
        except KeyboardInterrupt as stop:
            stderr.write("\n")
            if stop.args:
                raise


@contextlib.contextmanager
def _line_editing(history_file: Path) -> Iterator[None]:
    """Gives `input` line editing and a history that is kept in a file of the user's own (0600)."""
    try:
        import readline
    except ImportError:  # some builds of Python have none
        yield
        return
    readline.set_history_length(HISTORY_LINES)
    with contextlib.suppress(OSError):
        readline.read_history_file(history_file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            history_file.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            os.close(os.open(history_file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            history_file.chmod(0o600)
            _hide_secrets(readline)
            readline.write_history_file(history_file)


def _hide_secrets(readline: ModuleType) -> None:
    for position in range(readline.get_current_history_length()):
        line = readline.get_history_item(position + 1)
        readline.replace_history_item(position, redaction.redacted(line))
