"""The words after a verb as arguments of its task."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from invoke import Exit

from pi import screen
from pi.cli.flags import flags_of
from pi.cli.help import usage_of
from pi.fabric_tasks.verb import Verb
from pi.text import one_line


class Usage(Exit):
    """A wrong call: what is wrong and the verb's usage, as one line on stderr; exit code 2."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(screen.printable(f"pi: {one_line(message, 300)}; usage: {usage}"), 2)


class Reading:
    """The words after a verb, read by the task's own arguments: flags, operands, and a raw tail."""

    def __init__(self, name: str, task: Verb, words: list[str]) -> None:
        self._usage = usage_of(name, task)
        self._task = task
        self._flags = flags_of(task)
        self._operands: list[str] = []
        self._values: dict[str, Any] = {}
        self._read(words)

    def values(self) -> dict[str, Any]:
        """Keyword arguments for the task."""
        return {**self._values, **self._distributed()}

    def _read(self, words: list[str]) -> None:
        rest = iter(words)
        for word in rest:
            if word == "--":
                self._operands += rest
            elif self._task.tail and word == f"--{self._task.tail}":
                self._values[str(self._task.tail)] = list(rest)
            elif word.startswith("-") and word != "-":
                self._flag(word, rest)
            else:
                self._operands.append(word)

    def _flag(self, word: str, rest: Iterator[str]) -> None:
        flag, given, value = word.partition("=")
        argument = self._flags.get(flag)
        if argument is None:
            close = get_close_matches(flag, self._flags, 1)
            raise Usage(f"unknown option {flag}{f' (did you mean {close[0]}?)' if close else ''}", self._usage)
        key = str(argument.name)
        if argument.kind is bool:
            if given:
                raise Usage(f"{flag} takes no value", self._usage)
            self._values[key] = True
            return
        text = value if given else next(rest, None)
        if text is None:
            raise Usage(f"{flag} needs a value", self._usage)
        if argument.kind is list:
            self._values.setdefault(key, []).append(text)
            return
        try:
            self._values[key] = argument.kind(text)
        except ValueError:
            raise Usage(f"{flag} {text!r} is not a whole number", self._usage) from None

    def _distributed(self) -> dict[str, Any]:
        """Operands by name: required ones get a word each, optional ones what is left, `...` the rest."""
        words = list(self._operands)
        values: dict[str, Any] = {}
        required = [operand for operand in self._task.operands if not operand.startswith("[")]
        spare = len(words) - len(required)
        for operand in self._task.operands:
            name = operand.strip("[].")
            if operand.endswith("...") or operand.endswith("...]"):
                values[name], words = words, []
                if not values[name] and operand in required:
                    raise Usage(f"{name} is missing", self._usage)
            elif operand in required:
                if not words:
                    raise Usage(f"{name} is missing", self._usage)
                values[name] = words.pop(0)
            elif spare > 0:
                values[name], spare = words.pop(0), spare - 1
        if words:
            raise Usage(f"unexpected {words[0]!r}", self._usage)
        return values


def wants_help(task: Verb, words: list[str]) -> bool:
    """Whether the words ask for help; after a raw tail they belong to vLLM."""
    tail = f"--{task.tail}"
    own = words[: words.index(tail)] if task.tail and tail in words else words
    own = own[: own.index("--")] if "--" in own else own
    return "--help" in own or "-h" in own
