"""The interactive chat: a line is a message, Ctrl+C stops an answer, Ctrl+D leaves."""

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
"""Lines of the history that are kept, of all chats together."""

CTRL_C_CODE = 130
"""The exit code of an `Interrupted` by Ctrl+C, which in a chat ends the answer alone."""

WELCOME = "Ctrl+C stops an answer, Ctrl+D leaves."


def chat(agent: Agent, history_file: Path, stderr: TextIO, with_whom: str, after_turn: Callable[[], None]) -> None:
    """Reads messages from the terminal until Ctrl+D. A turn that fails is told, and the chat goes on.

    `with_whom` begins the words that welcome the user.

    Raises:
        Signalled: after a signal other than Ctrl+C's.
    """
    stderr.write(f"{with_whom}. {WELCOME}\n")
    with _line_editing(history_file) as said:
        while (message := _message(stderr)) is not None:
            if not message.strip():
                continue
            said.append(message)
            try:
                agent.turn(message)
            except PiError as error:
                if isinstance(error, Interrupted) and error.exit_code != CTRL_C_CODE:
                    raise
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
            if isinstance(stop, Signalled):
                raise


@contextlib.contextmanager
def _line_editing(history_file: Path) -> Iterator[list[str]]:
    """Gives `input` line editing and a history that is kept in a file of the user's own (0600).

    The messages that the block puts into the list are added to the file at its end.
    """
    said: list[str] = []
    try:
        import readline
    except ImportError:  # some builds of Python have none
        yield said
        return
    readline.set_history_length(HISTORY_LINES)
    with contextlib.suppress(OSError):
        readline.read_history_file(history_file)
    try:
        yield said
    finally:
        with contextlib.suppress(OSError):
            _add(said, history_file, readline)


def _add(said: Sequence[str], history_file: Path, readline: ModuleType) -> None:
    """Adds messages to the file as it is now: other chats may have added theirs since this one began."""
    history_file.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    with _locked(history_file.with_name(history_file.name + ".lock")):
        os.close(os.open(history_file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        history_file.chmod(0o600)
        readline.clear_history()
        with contextlib.suppress(OSError):  # libedit refuses an empty file
            readline.read_history_file(history_file)
        for message, _ in itertools.groupby(said):
            readline.add_history(message)
        _hide_secrets(readline)
        readline.write_history_file(history_file)


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Holds a lock file: the history's own is replaced by a new one whenever it is written."""
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
