"""Saved conversations, one file each, for `--continue` and `--sessions`.

Files are `conversations/ID.jsonl` in the config directory, 0600 in a 0700 directory: a line about the
conversation, then a line for each message. They contain all messages and tool results, but no keys.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pi import config, redaction
from pi.errors import InputError
from pi.prompt.history import Message, UserMessage, complete, from_json, to_json
from pi.text import well_formed

VERSION = 1

FILE_BYTES = 100_000_000
"""Largest file that pi reads: JSON needs up to six bytes for each character of a conversation."""

HEAD_BYTES = 64 * 1024
"""Largest first line of a file."""

MAX_SAVED = 200
"""Most conversations on disk; saving a new one deletes older ones."""


@dataclass(frozen=True)
class Session:
    """A saved conversation.

    `started` is UTC, such as "2026-11-23T18:04:05Z"; `first` is the beginning of its first message.
    """

    id: str
    directory: str
    model: str
    started: str
    first: str = ""
    messages: int = 0


class Sessions:
    """The saved conversations in a config directory."""

    def __init__(self, config_dir: Path) -> None:
        self._directory = config_dir / "conversations"

    def new(self, working_dir: Path, model: str) -> Session:
        """Return a conversation that begins now, without writing anything."""
        seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
        now = time.gmtime(seconds)
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
        id = f"{time.strftime('%Y%m%d-%H%M%S', now)}-{milliseconds:03}-{secrets.token_hex(3)}"
        return Session(id, well_formed(str(working_dir)), model, started)

    def all(self) -> Iterator[Session]:
        """Yield every conversation, newest first, and skip unreadable files."""
        return filter(None, map(_session, self._paths()))

    def last(self, working_dir: Path) -> Session | None:
        """Return the newest conversation of a directory."""
        directory = well_formed(str(working_dir))
        return next((session for session in self.all() if session.directory == directory), None)

    def history(self, session: Session) -> list[Message]:
        """Return the readable messages of a conversation, up to a point where it can continue.

        Raises InputError if the file is too large.
        """
        path = self._path(session)
        if path.stat().st_size > FILE_BYTES:
            raise InputError(
                "conversation-file-too-large",
                f"{path} has more than {FILE_BYTES // 10**6} MB",
                "begin a new conversation: pi prompt without --continue",
            )
        messages: list[Message] = []
        with (
            contextlib.suppress(ValueError),
            path.open(encoding="utf-8", errors="replace") as file,
        ):
            for line in itertools.islice(file, 1, None):
                messages.append(from_json(json.loads(line)))
        return complete(messages)

    def save(self, session: Session, history: Sequence[Message]) -> None:
        """Write the whole conversation, or leave the file unchanged."""
        for directory in (self._directory.parent, self._directory):
            config.make_private(directory)
        self._directory.chmod(0o700)
        hidden = redaction.secrets()
        first = hidden.hide(next((message.text for message in history if isinstance(message, UserMessage)), ""))
        head = {"version": VERSION, **asdict(session), "first": first[:200], "messages": len(history)}
        lines = [head, *map(to_json, history)]
        path = self._path(session)
        draft = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(hidden.hide_all(line)) + "\n" for line in lines)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        for old in self._paths()[MAX_SAVED:]:
            old.unlink(missing_ok=True)

    def _path(self, session: Session) -> Path:
        return self._directory / f"{session.id}.jsonl"

    def _paths(self) -> list[Path]:
        """Return all files, newest first by name."""
        return sorted(self._directory.glob("*.jsonl"), reverse=True)


def _session(path: Path) -> Session | None:
    """Return the conversation in a file's first line, or None if it is not one."""
    try:
        with path.open(encoding="utf-8") as file:
            head = json.loads(file.readline(HEAD_BYTES))
        if head["version"] != VERSION:
            return None
        directory, model, started, first = (str(head[name]) for name in ("directory", "model", "started", "first"))
        return Session(path.stem, directory, model, started, first, int(head["messages"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
