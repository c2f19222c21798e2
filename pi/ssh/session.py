"""One `ssh` to a pod, up to the word with which the pod's /bin/sh answers.

What comes before that word is from the account's start-up files.
"""

from __future__ import annotations

import time
from typing import Protocol

from pi.errors import PiError, UnreachableError
from pi.on_pod.pace import paced
from pi.on_pod.redact import NAMES
from pi.ssh import messages
from pi.ssh.log import Log
from pi.ssh.process import FAILED, Silence, Stream

LOGIN_PATIENCE_S = 30
"""How long a login may take after the connection is there: key exchange, keys, agents that ask."""

START_UP_S = 30
"""How long the login shell's start-up files may take."""

WARM_PATIENCE_S = 3
"""How long a warm connection may take to open a channel; after that it is dead."""

MAX_NOISE = 64 * 1024
"""Bytes kept of what start-up files print."""

MAX_OUTPUT = 16 * 1024 * 1024
"""Bytes that start-up files may print."""

ANSWER = "pi-answers-"

BARE_ENV = " ".join(["/usr/bin/env", *(f"-u {name}" for name in NAMES)])
"""Takes away secrets that the login shell exports: the environment of a process can be read while it lives."""

SHELL = "pi-asks-"

ANSWER_S = 2
"""How long another shell may take to say its name."""


def first_command(word: str) -> str:
    """Return the command that answers with the word, and then runs a line of /bin/sh from stdin.

    Any login shell passes it on unchanged: it has no single quotes inside.
    """
    return f"exec {BARE_ENV} /bin/sh -c 'echo; echo {ANSWER}{word}; exec 2>&1; IFS= read -r c && eval \"$c\"'"


class Server(Protocol):
    """What a session asks about its pod."""

    @property
    def where(self) -> str: ...

    @property
    def timeout_s(self) -> int: ...

    def failure(self, text: str) -> PiError: ...

    def command_as(self, user: str) -> str: ...


class DeadMaster(Exception):
    """A warm connection opened no channel in time."""


class Session:
    """One `ssh` whose shell on the pod waits for a command."""

    def __init__(self, server: Server, stream: Stream, log: Log, word: str, is_warm: bool) -> None:
        self.stream = stream
        self._server = server
        self._log = log
        self._mark = f"{ANSWER}{word}\n".encode()
        self._is_warm = is_warm
        self._began = time.monotonic()
        self._answered = False

    def await_word(self) -> str:
        """Read until the pod's shell answers with the word. Return ssh's log, or "" if that was done before.

        Raises UnreachableError, HostKeyError or DeadMaster.
        """
        if self._answered:
            return ""
        noise = b""
        channel_at, size = 0.0, 0
        while self._mark not in noise:
            chunk = self._heard(0.2, noise)
            noise, size = (noise + chunk)[-MAX_NOISE:], size + len(chunk)
            if size > MAX_OUTPUT:
                raise messages.shell_flood(self._server.where, _text(noise), MAX_OUTPUT)
            channel_at = channel_at or (time.monotonic() if self._log.has_channel() else 0.0)
            self._check_time(channel_at, noise)
        self._answered = True
        log = self._log.text()
        self._log.close()
        return log

    def _heard(self, patience_s: float, before: bytes) -> bytes:
        """Return the next output, empty if there is none in time. Raises PiError at the end."""
        try:
            chunk = self.stream.receive(patience_s)
        except Silence:
            return b""
        if not chunk:
            raise self._ended(before)
        return chunk

    def _check_time(self, channel_at: float, noise: bytes) -> None:
        now = time.monotonic()
        if not channel_at:
            is_warm = self._is_warm and not self._log.has_own_connection()
            if is_warm and now - self._began > paced(WARM_PATIENCE_S):
                raise DeadMaster
            patience_s = self._server.timeout_s + LOGIN_PATIENCE_S
            if now - self._began > paced(patience_s):
                raise UnreachableError(
                    "login-slow", f"{self._server.where} accepted the connection, but no login within {patience_s} s"
                )
        elif self._mark not in noise and now - channel_at > paced(START_UP_S):
            raise self._slow_start(noise)

    def _slow_start(self, noise: bytes) -> UnreachableError:
        """Return why start-up files do not end: another shell answers a question, and one that waits for input ends."""
        self.stream.send(f"echo {SHELL}$0\n".encode())
        heard, deadline = b"", time.monotonic() + paced(ANSWER_S)
        while time.monotonic() < deadline and self._mark not in heard and SHELL.encode() not in heard:
            heard += self._heard(0.1, noise + heard)
        return messages.shell_silence(
            self._server.where, _text(noise), START_UP_S, _text(heard), waits=self._mark in heard
        )

    def _ended(self, noise: bytes) -> PiError:
        status = self.stream.exit_status()
        text = _text(noise)
        if status == FAILED and not self._log.has_channel():
            return self._server.failure(f"{self._log.text()}\n{text}")
        return messages.shell_failure(self._server.where, text, status, self._server.command_as)

    def close(self) -> None:
        self.stream.close()
        self._log.close()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
