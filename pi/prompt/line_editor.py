"""Read the messages of a chat from a terminal: editing, several lines, pasted blocks, a history."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.filters import is_done
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_input
from prompt_toolkit.input.typeahead import get_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import is_dumb_terminal

from pi import config, redaction

HISTORY_LINES = 1000
"""Messages kept in the history of all chats."""

BREAK = "\N{LINE SEPARATOR}"
"""Stands for a newline within a message, in the history file."""

PASTE_ON, PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
"""Ask the terminal to mark pasted text (bracketed paste), or no longer."""


class LineEditor:
    """Reads messages with prompt_toolkit, and keeps them in a private file (0600) when it is closed."""

    def __init__(self, stdin: TextIO, stdout: TextIO, history_file: Path) -> None:
        self._stdin, self._stdout = stdin, stdout
        self._file = history_file
        self._sent: list[str] = []
        self._session: PromptSession[str] = PromptSession(
            [("fg:ansidefault", "> ")],
            multiline=True,
            prompt_continuation="  ",
            history=InMemoryHistory(_saved(history_file)),
            key_bindings=_keys(),
            enable_suspend=True,
            input=create_input(stdin),
            output=None if is_dumb_terminal() else _output(stdout),
        )

    def read(self) -> str:
        """Return the next message. Raises EOFError after Ctrl+D, KeyboardInterrupt after Ctrl+C."""
        message = self._session.prompt(pre_run=self._hold_typed_keys)
        if message.strip():
            self._sent.append(message)
        return message

    def _hold_typed_keys(self) -> None:
        """Let keys that were typed before the prompt wait until the history is loaded, which they may refer to."""
        self._session.default_buffer.load_history_if_not_yet_loaded()
        keys = self._session.app.key_processor
        keys_typed = get_typeahead(self._session.input)

        def feed() -> None:
            keys.feed_multiple(keys_typed)
            keys.process_keys()

        asyncio.get_running_loop().call_soon(feed)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Keep what is typed during an answer for the next message, without showing it."""
        descriptor = self._stdin.fileno()
        before = termios.tcgetattr(descriptor)
        quiet = termios.tcgetattr(descriptor)
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
        self._write(PASTE_ON)
        try:
            yield
        finally:
            self._write(PASTE_OFF)
            with contextlib.suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(descriptor, termios.TCSANOW, before)

    def _write(self, text: str) -> None:
        if is_dumb_terminal():
            return
        with contextlib.suppress(OSError):
            self._stdout.write(text)
            self._stdout.flush()

    def close(self) -> None:
        """Add the messages to the file as it is now, which other chats may have changed."""
        with contextlib.suppress(OSError):
            _add(self._sent, self._file)


def _output(stdout: TextIO) -> Vt100_Output:
    output = Vt100_Output.from_pty(stdout, term=os.environ.get("TERM"))
    output.enable_cpr = False  # pi does not need the position of the cursor, and some terminals never tell it
    return output


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~is_done)
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\") and buffer.document.is_cursor_at_the_end:
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("escape", "c-j")
    def begin_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


def _saved(history_file: Path) -> list[str]:
    """Return the messages in a file, oldest first; none if it is unreadable."""
    try:
        text = history_file.read_bytes().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.replace(BREAK, "\n") for line in text.split("\n") if line]


def _add(sent: Sequence[str], history_file: Path) -> None:
    config.make_private(history_file.parent)
    with _locked(history_file.with_name(history_file.name + ".lock")):
        messages = [*_saved(history_file), *(message for message, _ in itertools.groupby(sent))]
        lines = (redaction.redacted(message).replace("\n", BREAK) + "\n" for message in messages[-HISTORY_LINES:])
        draft = history_file.with_name(history_file.name + ".tmp")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.writelines(line.encode("utf-8", "replace") for line in lines)
        draft.replace(history_file)


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a lock file. The history itself cannot serve: each write replaces it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
