"""Build a safe ripgrep command from the model's arguments.

ripgrep can run programs (`--pre`, `--hostname-bin`, `--search-zip`, a configuration file), read elsewhere
(`--file`, `--ignore-file`, `--follow`, paths) and write terminal escapes (`--replace`, `--colors`). So pi accepts
only the flags in the tables below, and builds the command word by word, without a shell.
Source of flags and their parsing: ripgrep 14 and 15, crates/core/flags.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import stat
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pi.prompt.limits import ToolError
from pi.prompt.paths import PathPolicy, kind_of_file

# Patterns of a flag's value; None means any text.
_NUMBER = r"\d{1,6}"
_WORD = r"[A-Za-z0-9_+-]{1,40}"
_ORDER = r"none|path|modified|accessed|created"

SWITCHES = {
    **{"c": "count", "F": "fixed-strings", "i": "ignore-case", "l": "files-with-matches", "n": "line-number"},
    **{"N": "no-line-number", "o": "only-matching", "q": "quiet", "s": "case-sensitive", "S": "smart-case"},
    **{"v": "invert-match", "w": "word-regexp", "x": "line-regexp", "H": "with-filename", "I": "no-filename"},
    **{".": "hidden", "u": "unrestricted", "b": "byte-offset", "P": "pcre2", "U": "multiline"},
}
"""Long names of short flags without a value."""

LONG_SWITCHES = frozenset(SWITCHES.values()) | {
    *("count-matches", "files-without-match", "files", "stats", "trim", "json", "heading", "no-heading"),
    *("column", "crlf", "type-list", "multiline-dotall", "one-file-system", "no-ignore", "no-ignore-dot"),
    *("no-ignore-exclude", "no-ignore-files", "no-ignore-global", "no-ignore-parent", "no-ignore-vcs"),
}

VALUED = {
    **{"A": "after-context", "B": "before-context", "C": "context", "E": "encoding", "e": "regexp"},
    **{"g": "glob", "m": "max-count", "M": "max-columns", "t": "type", "T": "type-not", "d": "max-depth"},
}
"""Long names of short flags with a value."""

VALUES: dict[str, str | None] = {
    **{"after-context": _NUMBER, "before-context": _NUMBER, "context": _NUMBER, "max-count": _NUMBER},
    **{"max-columns": _NUMBER, "max-depth": _NUMBER, "max-filesize": r"\d{1,12}[KMG]?"},
    **{"encoding": _WORD, "type": _WORD, "type-not": _WORD, "type-add": r"[A-Za-z0-9_]{1,40}:.{1,200}"},
    **{"sort": _ORDER, "sortr": _ORDER, "regexp": None, "glob": None, "iglob": None},
}
"""Patterns of the values of long flags."""

WITHOUT_PATTERN = frozenset({"files", "type-list"})

ALWAYS = (
    *("--no-config", "--color=never", "--no-follow", "--no-pre", "--no-search-zip", "--threads=2"),
    *("--max-filesize=20M", "--max-columns=500", "--max-columns-preview"),
    *("--no-ignore-parent", "--no-ignore-global", "--no-ignore-exclude", "--no-require-git"),
    *("--no-messages", "--no-ignore-messages"),
)
"""Flags that follow the model's, and so override them.

They ignore `.ignore` files outside the root, and silence messages about ignore files: those quote lines of a file
that may be a symlink to anywhere. `--no-ignore-messages` does not cover parent directories.
"""


@dataclass
class _Words:
    """The model's words, classified as ripgrep does."""

    flags: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    patterns: list[str] = field(default_factory=list)
    operands: list[str] = field(default_factory=list)


def command(arguments: str, policy: PathPolicy) -> list[str]:
    """Check the model's arguments and return those for ripgrep, run in the policy's root.

    Raises:
        ToolError: if a quote is not closed, a flag or its value is not allowed, the pattern is missing, or a path
            is not readable.
    """
    words = _classified(_split(arguments))
    operands = words.operands
    if words.patterns or words.names & WITHOUT_PATTERN:
        patterns = words.patterns
    elif operands:
        patterns, operands = operands[:1], operands[1:]
    else:
        raise ToolError("rg needs a pattern: rg(args='PATTERN [FLAGS] [PATH ...]')")
    return [
        *words.flags,
        *(word for pattern in patterns for word in ("-e", pattern)),
        *ALWAYS,
        *_exclusions(policy),
        "--",
        *([_operand(path, policy) for path in operands] or [_root(policy)]),
    ]


@dataclass
class Search:
    """A command whose file operands are open files, so that nobody can replace them after the check.

    Directories keep their names, because the globs match names: `check` tells if one was replaced meanwhile.
    """

    words: list[str]
    descriptors: list[int] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _directories: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Device and inode of each directory, by its operand."""
    root: Path = Path()

    def add(self, operand: str, policy: PathPolicy) -> None:
        path = self.root / operand
        if path.is_dir():
            descriptor = policy.open_directory(path)
            self._directories[operand] = _identity(os.fstat(descriptor))
            os.close(descriptor)
            self.words.append(operand)
            return
        descriptor = policy.open_file(path)
        self.descriptors.append(descriptor)
        opened_name = f"{DESCRIPTORS}/{descriptor}"
        self._names[opened_name] = operand
        self.words.append(opened_name)

    def check(self) -> None:
        """Raise ToolError if a directory is not the one that was checked."""
        for operand, identity in self._directories.items():
            try:
                now = _identity((self.root / operand).lstat() if operand != "./" else self.root.lstat())
            except OSError:
                now = None
            if now != identity:
                raise ToolError(f"{operand} was replaced while rg ran; search again")

    def named(self, output: str) -> str:
        """Return the output with the names of files instead of their descriptors."""
        for opened_name, operand in self._names.items():
            output = re.sub(rf"(?m)^{opened_name}(?=[:-]|$)", lambda _, name=operand: name, output)  # type: ignore[misc]
            output = output.replace(f'"path":{{"text":"{opened_name}"}}', f'"path":{{"text":{json.dumps(operand)}}}')
        return output


DESCRIPTORS = "/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd"


@contextlib.contextmanager
def opened(command: Sequence[str], policy: PathPolicy) -> Iterator[Search]:
    """Open the operands of a command and yield the search. Raises ToolError if one may not be read any more."""
    words = list(command)
    end = words.index("--") + 1
    search = Search(words[:end], root=policy.root)
    try:
        for operand in words[end:]:
            search.add(operand, policy)
        yield search
    finally:
        for descriptor in search.descriptors:
            os.close(descriptor)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _split(arguments: str) -> list[str]:
    if "\0" in arguments:
        raise ToolError("the arguments contain a NUL character")
    try:
        return shlex.split(arguments)
    except ValueError as error:
        raise ToolError(f"the arguments cannot be split into words: {error}") from None


def _classified(words: list[str]) -> _Words:
    result = _Words()
    rest = iter(words)
    for word in rest:
        if word == "--":
            result.operands.extend(rest)
        elif word.startswith("--"):
            _long(word, lambda: next(rest, None), result)
        elif word.startswith("-") and word != "-":
            _bundle(word, lambda: next(rest, None), result)
        else:
            result.operands.append(word)
    return result


def _long(word: str, following: Callable[[], str | None], result: _Words) -> None:
    """Add `--flag`, `--flag value` or `--flag=value`."""
    name, equals, value = word[2:].partition("=")
    if name in VALUES:
        _valued(f"--{name}", name, value if equals else following(), result)
    elif name in LONG_SWITCHES and not equals:
        _switch(name, result)
    else:
        raise _not_allowed(f"--{name}")


def _bundle(word: str, following: Callable[[], str | None], result: _Words) -> None:
    """Add `-i`, `-in`, `-tpy`, `-t py`, `-t=py` or `-inA3`.

    The first flag with a value takes the rest of the word.
    """
    for position, letter in enumerate(word[1:], 1):
        if letter in VALUED:
            attached = word[position + 1 :]
            value = attached[1:] if attached.startswith("=") else attached or following()
            return _valued(f"-{letter}", VALUED[letter], value, result)
        if letter not in SWITCHES:
            raise _not_allowed(f"-{letter}" if len(word) == 2 else f"-{letter} (in {word})")
        _switch(SWITCHES[letter], result)


def _switch(name: str, result: _Words) -> None:
    result.names.add(name)
    result.flags.append(f"--{name}")


def _valued(shown: str, name: str, value: str | None, result: _Words) -> None:
    if value is None:
        raise ToolError(f"rg: {shown} needs a value")
    form = VALUES[name]
    if form is not None and not re.fullmatch(form, value):
        raise ToolError(f"rg: invalid value {value!r} of {shown}")
    if name == "regexp":
        result.patterns.append(value)
    else:
        result.flags.append(f"--{name}={value}")


def _not_allowed(flag: str) -> ToolError:
    short = " ".join(f"-{letter}" for letter in sorted(SWITCHES | VALUED))
    return ToolError(f"rg: the flag {flag} is not allowed here; use {short}, or certain long ones")


def _root(policy: PathPolicy) -> str:
    """Return the root as an operand. Raises ToolError if the root is private."""
    policy.check(policy.root)
    return "./"


def _operand(text: str, policy: PathPolicy) -> str:
    path = policy.resolve(text)
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ToolError(f"{text} is {kind_of_file(mode)}; rg searches files and directories")
    if path.is_relative_to(policy.root):
        return f"./{path.relative_to(policy.root)}"
    return str(path)


def _exclusions(policy: PathPolicy) -> list[str]:
    """Return globs that exclude private directories.

    ripgrep applies `--iglob`s after every `--glob`, and the last match wins. It matches patterns from the root,
    but matches an absolute path outside the root as a whole.
    """
    globs = ["--iglob=!.ssh"]
    for private in policy.private:
        if private.is_relative_to(policy.root):
            globs.append(f"--iglob=!/{_literal(private.relative_to(policy.root))}")
        elif policy.allow_outside:
            globs.append(f"--iglob=!**{_literal(private)}")
    return globs


def _literal(path: Path) -> str:
    return re.sub(r"([][{}*?!\\])", r"\\\1", str(path))


def find() -> Path | None:
    """Return ripgrep from its package in this Python, or from PATH (absolute parts)."""
    directories = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
    directories += [part for part in os.get_exec_path() if Path(part).is_absolute()]
    binary = shutil.which("rg", path=os.pathsep.join(directories))
    return Path(binary) if binary else None
