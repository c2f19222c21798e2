"""Read the words after a verb as its flags and operands."""

from __future__ import annotations

import re
import shlex
from collections import deque
from difflib import get_close_matches
from typing import Any

from invoke import Exit

from pi import screen
from pi.cli.help import short_usage_of
from pi.cli.meanings import meant_flag
from pi.errors import tag
from pi.fabric_tasks.flags import Flag, flags_of, operands_of
from pi.fabric_tasks.verb import Verb
from pi.text import one_line

TEXT = "TEXT"
"""How flags declare a value that may be empty."""


class Usage(Exit):
    """A wrong call: one line on stderr with the mistake and the verb's usage; exit code 2."""

    def __init__(self, id: str, message: str, usage: str) -> None:
        super().__init__(screen.printable(f"pi: {one_line(message, 300)}; usage: {usage}{tag(id)}"), 2)


class Reading:
    """The words after a verb, read by what it declares. Raises Usage for words that do not fit."""

    def __init__(self, name: str, task: Verb, words: list[str]) -> None:
        self._usage = short_usage_of(name, task)
        self._flags = {flag.name: flag for flag in flags_of(task.options)}
        self._shorts = {flag.short: flag for flag in self._flags.values() if flag.short}
        self._declared = operands_of(task.options)
        self._operands: list[str] = []
        self._values: dict[str, Any] = {}
        self._read(words)

    def values(self) -> dict[str, Any]:
        """Return keyword arguments for the task."""
        return {**self._values, **self._distributed()}

    def _read(self, words: list[str]) -> None:
        rest = deque(words)
        while rest:
            word = rest.popleft()
            if word == "--":
                self._operands += rest
                return
            if word.startswith("-") and word != "-":
                self._read_flag(word, rest)
            else:
                self._operands.append(self._command(word, rest) if self._is_command_next() else word)

    def _is_command_next(self) -> bool:
        place = len(self._operands)
        return place < len(self._declared) and self._declared[place].is_command

    def _command(self, word: str, rest: deque[str]) -> str:
        """Return a command line that begins with this word.

        If its quotes are missing, it ends before the next word with two dashes: the flags of ssh have one dash.
        """
        words = [word]
        while rest and not rest[0].startswith("--") and not re.search(r"\s", word):
            words.append(rest.popleft())
        return shlex.join(words) if len(words) > 1 else word

    def _read_flag(self, word: str, rest: deque[str]) -> None:
        if short := self._shorts.get(word[:2]):
            if tail := word[2:]:  # -n20 is -n 20, -qy is -q -y
                rest.appendleft(f"-{tail}" if short.kind is bool else tail)
            word = short.name
        name, has_value, value = word.partition("=")
        flag = self._flags.get(name)
        if flag is None or (flag.takes_rest and has_value):
            raise Usage("unknown-flag", self._unknown(name), self._usage)
        if flag.takes_rest:
            self._values[flag.attribute] = list(rest)
            rest.clear()
        elif flag.kind is bool:
            if has_value:
                raise Usage("flag-takes-no-value", f"{name} takes no value", self._usage)
            self._values[flag.attribute] = True
        else:
            read = self._value(flag, value if has_value else rest.popleft() if rest else None)
            self._values[flag.attribute] = [*self._values.get(flag.attribute, []), read] if flag.repeats else read

    def _unknown(self, name: str) -> str:
        if name == "--all-pods" and "--pod" in self._flags:
            return "this works on one pod at a time: use --pod P instead of --all-pods"
        close = meant_flag(name, self._flags) or next(iter(get_close_matches(name, self._flags, 1)), None)
        return f"unknown option {name}{f' (did you mean {close}?)' if close else ''}"

    def _value(self, flag: Flag, text: str | None) -> str | int:
        if text is None or (text == "" and flag.value != TEXT):
            problem = "needs a value" if text is None else "has an empty value"
            raise Usage("flag-needs-value", f"{flag.name} {problem}", self._usage)
        try:
            value: str | int = flag.kind(text)
        except ValueError:
            raise Usage("flag-not-a-number", f"{flag.name} {text!r} is not a whole number", self._usage) from None
        return value

    def _distributed(self) -> dict[str, Any]:
        """Give each required operand a word, optional ones what is left, and the last one the rest."""
        words = list(self._operands)
        values: dict[str, Any] = {}
        spare = len(words) - len([operand for operand in self._declared if operand.required])
        for operand in self._declared:
            name = operand.attribute
            if operand.required and not words:
                raise Usage("operand-missing", f"{name} is missing", self._usage)
            if operand.takes_rest:
                values[name], words = words, []
            elif operand.required:
                values[name] = words.pop(0)
            elif spare > 0:
                values[name], spare = words.pop(0), spare - 1
        for name, value in values.items():
            if value == "":  # as from "$NAME" without NAME, which must not mean every model
                raise Usage("operand-empty", f"{name} is empty", self._usage)
        if words:
            raise Usage("unexpected-word", f"unexpected {words[0]!r}", self._usage)
        return values


def wants_help(task: Verb, words: list[str]) -> bool:
    """Return whether the words ask for help; words that are passed on do not."""
    tails = [flag.name for flag in flags_of(task.options) if flag.takes_rest]
    end = min(words.index(word) if word in words else len(words) for word in ["--", *tails])
    return "--help" in words[:end] or "-h" in words[:end]
