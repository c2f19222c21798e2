"""One `ssh` to a pod, from its start until the pod's shell has answered with a random word."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pi.errors import PiError, UnreachableError
from pi.on_pod.pace import paced
from pi.ssh import messages
from pi.ssh.process import Silence, Stream

LOGIN_PATIENCE_S = 30
"""How long a login may take after the connection is there: key exchange, keys, agents that ask."""

START_UP_S = 30
"""How long the login shell's start-up files may take."""

WARM_PATIENCE_S = 3
"""How long a warm connection may take to open a channel; after that it is dead."""

MAX_NOISE = 64 * 1024
"""Bytes kept of what start-up files print."""

ANSWER = "pi-answers-"

SHELL = "pi-asks-"

ANSWER_S = 2
"""How long another shell may take to say its name."""

OPENED = r"master session id|Sending command|channel \d+: new direct-tcpip"
"""What ssh's log has when the server has opened a channel."""

OWN_CONNECTION = r"debug1: (?:Connecting to|Executing proxy command)"
"""What ssh's log has when it uses no warm connection, for example since the socket was left by a dead process."""

Explain = Callable[[str, str, "int | None"], PiError]


class Log:
    """A private file for ssh's messages, which goes when it has been read."""

    def __init__(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor, name = tempfile.mkstemp(prefix=".ssh-", dir=folder)
        except OSError:
            descriptor, name = tempfile.mkstemp(prefix="pi-ssh-")
        os.close(descriptor)
        self.path = Path(name)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def text(self) -> str:
        try:
            return self.path.read_text("utf-8", "replace")
        except OSError:
            return ""

    def close(self) -> None:
        self.path.unlink(missing_ok=True)


class DeadMaster(Exception):
    """A warm connection opened no channel in time."""


class Session:
    """One `ssh` whose shell on the pod waits for a command.

    `words` are those of `ssh`, without the command. `where` is "HOST:PORT", `timeout_s` the time-out for connecting,
    and `explain` turns a log, other output and an exit status into the error of a login that ended.
    """

    def __init__(
        self, words: list[str], log: Log, where: str, timeout_s: int, explain: Explain, *, is_warm: bool
    ) -> None:
        word = secrets.token_hex(12)
        # the outer shell may be any login shell: without single quotes inside, each passes this on unchanged
        command = f"exec /bin/sh -c 'echo; echo {ANSWER}{word}; exec 2>&1; IFS= read -r c && eval \"$c\"'"
        self.stream = Stream([*words, command])
        self._log = log
        self._where = where
        self._timeout_s = timeout_s
        self._explain = explain
        self._mark = f"{ANSWER}{word}\n".encode()
        self._is_warm = is_warm
        self._began = time.monotonic()
        self._answered = False

    def await_word(self) -> str:
        """Read until the pod's shell answers with the word; return ssh's log, "" the next time.

        Raises UnreachableError, HostKeyError or DeadMaster.
        """
        if self._answered:
            return ""
        noise = b""
        channel_at = 0.0
        while self._mark not in noise:
            noise = (noise + self._heard(0.2, noise))[-MAX_NOISE:]
            channel_at = channel_at or self._channel_opened()
            self._check_time(channel_at, noise)
        self._answered = True
        with self._log as log:
            return log.text()

    def _heard(self, patience_s: float, before: bytes) -> bytes:
        """Return the next output, empty if there is none in time. Raises PiError at the end."""
        try:
            chunk = self.stream.receive(patience_s)
        except Silence:
            return b""
        if not chunk:
            raise self._ended(before)
        return chunk

    def _channel_opened(self) -> float:
        return time.monotonic() if re.search(OPENED, self._log.text()) else 0.0

    def _check_time(self, channel_at: float, noise: bytes) -> None:
        now = time.monotonic()
        if not channel_at:
            is_warm = self._is_warm and not re.search(OWN_CONNECTION, self._log.text())
            if is_warm and now - self._began > paced(WARM_PATIENCE_S):
                raise DeadMaster
            patience_s = self._timeout_s + LOGIN_PATIENCE_S
            if now - self._began > paced(patience_s):
                raise UnreachableError(
                    "login-slow", f"{self._where} accepted the connection, but no login within {patience_s} s"
                )
        elif self._mark not in noise and now - channel_at > paced(START_UP_S):
            raise self._slow_start(noise)

    def _slow_start(self, noise: bytes) -> UnreachableError:
        """Return why start-up files do not end: another shell answers a question, and one that waits for input ends."""
        self.stream.send(f"echo {SHELL}$0\n".encode())
        heard, deadline = b"", time.monotonic() + paced(ANSWER_S)
        while time.monotonic() < deadline and self._mark not in heard and SHELL.encode() not in heard:
            heard += self._heard(0.1, noise + heard)
        return messages.shell_silence(self._where, _text(noise), START_UP_S, _text(heard), waits=self._mark in heard)

    def _ended(self, noise: bytes) -> PiError:
        status = self.stream.exit_status()
        return self._explain(self._log.text(), _text(noise), status)

    def close(self) -> None:
        self.stream.close()
        self._log.close()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
