"""Become another program, or run one for several pods."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from pi import screen
from pi.errors import InputError


@dataclass(frozen=True)
class Ran:
    """A program that ended: its exit code and its output."""

    code: int
    out: str
    err: str


def command_line(words: Sequence[str]) -> str:
    """Return a line for the pod's shell: a single word as it is, several words as one command with these words.

    Raises InputError for a blank line, with which ssh would open a shell.
    """
    line = words[0] if len(words) == 1 else shlex.join(words)
    if not line.strip():
        raise InputError("command-empty", "the command is empty", "for a shell: pi shell")
    return line


def has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def become(words: list[str]) -> NoReturn:
    """Replace this process by a program, which gets its terminal, its signals and its exit code."""
    screen.flush()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the program would inherit that
    os.execvp(words[0], words)  # noqa: S606 - no shell


def run(words: list[str]) -> Ran:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True)
    return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
