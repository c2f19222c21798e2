"""The interactive chat: each line is a message, Ctrl+C stops an answer, Ctrl+D leaves."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TextIO

from pi import redaction
from pi.errors import Interrupted, PiError, Signalled
from pi.prompt.agent import Agent

HISTORY_LINES = 1000
"""Lines kept in the history of all chats."""

CTRL_C_CODE = 130
"""The exit code of an `Interrupted` by Ctrl+C, which ends only the answer."""

WELCOME = "Ctrl+C stops an answer, Ctrl+D leaves."


def chat(agent: Agent, history_file: Path, stderr: TextIO, greeting: str, after_turn: Callable[[], None]) -> None:
    """Read messages from the terminal until Ctrl+D. After a failed turn the chat continues.

    `greeting` is the first sentence on the screen.

    Raises:
        Signalled: after a signal other than Ctrl+C's.
    """
    stderr.write(f"{greeting}. {WELCOME}\n")
    with _line_editing(history_file) as sent:
        while (message := _message(stderr)) is not None:
            if not message.strip():
                continue
            sent.append(message)
            try:
                agent.turn(message)
            except PiError as error:
                if isinstance(error, Interrupted) and error.exit_code != CTRL_C_CODE:
                    raise
                stderr.write(redaction.redacted(error.render()) + "\n")
            finally:
                after_turn()


def _message(stderr: TextIO) -> str | None:
    """Return the next line, or None if the user leaves. Ctrl+C discards the line."""
    while True:
        try:
            return input("> ")
        except EOFError:
            stderr.write("\n")
            return None
        except KeyboardInterrupt as stop:
            stderr.write("\n")
            if isinstance(stop, Signalled):
                raise


@contextlib.contextmanager
def _line_editing(history_file: Path) -> Iterator[list[str]]:
    """Give `input` line editing and a history, saved in a private file (0600).

    Yields a list; its messages are added to the file at the end of the block.
    """
    sent: list[str] = []
    try:
        import readline
    except ImportError:  # some builds of Python lack it
        yield sent
        return
    readline.set_history_length(HISTORY_LINES)
    with contextlib.suppress(OSError):
        readline.read_history_file(history_file)
    try:
        yield sent
    finally:
        with contextlib.suppress(OSError):
            _add(sent, history_file, readline)


def _add(sent: Sequence[str], history_file: Path, readline: ModuleType) -> None:
    """Add messages to the file as it is now, which other chats may have changed."""
    history_file.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    with _locked(history_file.with_name(history_file.name + ".lock")):
        os.close(os.open(history_file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        history_file.chmod(0o600)
        readline.clear_history()
        with contextlib.suppress(OSError):  # libedit refuses an empty file
            readline.read_history_file(history_file)
        for message, _ in itertools.groupby(sent):
            readline.add_history(message)
        _hide_secrets(readline)
        readline.write_history_file(history_file)


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a lock file. The history itself cannot serve: each write replaces it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hide_secrets(readline: ModuleType) -> None:
    for position in range(readline.get_current_history_length()):
        line = readline.get_history_item(position + 1)
        readline.replace_history_item(position, redaction.redacted(line))
