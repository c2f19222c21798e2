"""Arguments of `vllm serve`: words parsed once, grouped by option."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

SHORT = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-dcp": "--decode-context-parallel-size",
    "-pcp": "--prefill-context-parallel-size",
    "-ep": "--enable-expert-parallel",
    "-q": "--quantization",
    "-O": "--optimization-level",
    "-cc": "--compilation-config",
    "-ac": "--attention-config",
    "-sc": "--speculative-config",
    "-dc": "--diffusion-config",
    "-asc": "--api-server-count",
}
"""vLLM's short options that a user may give; pi sets the others itself."""


@dataclass(frozen=True)
class Argument:
    """One option with its values.

    `option` is the option in vLLM's spelling, without value and parts; None for values before the first option.
    """

    option: str | None
    words: tuple[str, ...]

    @cached_property
    def name(self) -> str | None:
        """The option, with a short one replaced by its long form."""
        return SHORT.get(self.option, self.option) if self.option else None

    @property
    def parts(self) -> list[str]:
        """Names after a dot: `--profiler-config.profiler=torch` sets the part `profiler`."""
        return self.words[0].partition("=")[0].split(".")[1:] if self.option else []

    @property
    def value(self) -> str | None:
        """The first value, joined by `=` or as the next word."""
        _, joined, value = self.words[0].partition("=")
        if joined:
            return value
        return self.words[1] if len(self.words) > 1 else None


@dataclass(frozen=True)
class Arguments:
    """A list of arguments in their order."""

    items: tuple[Argument, ...] = ()

    @classmethod
    def parse(cls, words: Iterable[str]) -> Arguments:
        groups: list[tuple[str | None, list[str]]] = []
        for word in words:
            option = _option(word)
            if option is None and groups:
                groups[-1][1].append(word)
            else:
                groups.append((option, [word]))
        return cls(tuple(Argument(option, tuple(group)) for option, group in groups))

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(word for item in self.items for word in item.words)

    def get(self, name: str) -> str | None:
        """Return the last value of a long option in any of its spellings, or None."""
        return next((item.value for item in reversed(self.items) if item.name == name), None)

    def __contains__(self, name: str) -> bool:
        return any(item.name == name for item in self.items)

    def __add__(self, more: Arguments) -> Arguments:
        return Arguments(self.items + more.items)

    def over(self, below: Arguments) -> Arguments:
        """Append these arguments to `below`, without the options that they replace there."""
        replaced = {item.option for item in self.items} - {None}
        return Arguments(tuple(item for item in below.items if item.option not in replaced) + self.items)

    def set(self, name: str, *values: object) -> Arguments:
        """Give an option these values alone; a flag has none."""
        return Arguments((Argument(name, (name, *map(str, values))),)).over(self)


def _option(word: str) -> str | None:
    if word.startswith("--") and len(word) > 2:
        return "--" + re.split(r"[=.]", word[2:])[0].replace("_", "-")
    if re.match(r"-[A-Za-z]", word):
        if re.match(r"-O=?-", word):  # vLLM would read the rest as an option of its own
            return word
        return "-O" if word.startswith("-O") else re.split(r"[=.]", word)[0]
    return None
