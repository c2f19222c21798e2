"""ripgrep for the model: its arguments pass an allowlist, are checked, and are written anew.

ripgrep can run programs (`--pre`, `--hostname-bin`, `--search-zip`, a configuration file), read elsewhere
(`--file`, `--ignore-file`, `--follow`, paths) and write terminal escapes (`--replace`, `--colors`). So only
flags in the tables below pass, and what runs is put together here, word by word, without a shell.
Flags and their parsing: ripgrep 14 and 15, crates/core/flags.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pi.prompt.limits import ToolError
from pi.prompt.paths import PathPolicy, kind_of_file

# What a flag's value may look like; None means any text.
_NUMBER = r"\d{1,6}"
_WORD = r"[A-Za-z0-9_+-]{1,40}"
_ORDER = r"none|path|modified|accessed|created"

SWITCHES = {
    **{"c": "count", "F": "fixed-strings", "i": "ignore-case", "l": "files-with-matches", "n": "line-number"},
    **{"N": "no-line-number", "o": "only-matching", "q": "quiet", "s": "case-sensitive", "S": "smart-case"},
    **{"v": "invert-match", "w": "word-regexp", "x": "line-regexp", "H": "with-filename", "I": "no-filename"},
    **{".": "hidden", "u": "unrestricted", "b": "byte-offset", "P": "pcre2", "U": "multiline"},
}
"""Short flags without a value, and their long names."""

LONG_SWITCHES = frozenset(SWITCHES.values()) | {
    *("count-matches", "files-without-match", "files", "stats", "trim", "json", "heading", "no-heading"),
    *("column", "crlf", "type-list", "multiline-dotall", "one-file-system", "no-ignore", "no-ignore-dot"),
    *("no-ignore-exclude", "no-ignore-files", "no-ignore-global", "no-ignore-parent", "no-ignore-vcs"),
}

VALUED = {
    **{"A": "after-context", "B": "before-context", "C": "context", "E": "encoding", "e": "regexp"},
    **{"g": "glob", "m": "max-count", "M": "max-columns", "t": "type", "T": "type-not", "d": "max-depth"},
}
"""Short flags with a value, and their long names."""

VALUES: dict[str, str | None] = {
    **{"after-context": _NUMBER, "before-context": _NUMBER, "context": _NUMBER, "max-count": _NUMBER},
    **{"max-columns": _NUMBER, "max-depth": _NUMBER, "max-filesize": r"\d{1,12}[KMG]?"},
    **{"encoding": _WORD, "type": _WORD, "type-not": _WORD, "type-add": r"[A-Za-z0-9_]{1,40}:.{1,200}"},
    **{"sort": _ORDER, "sortr": _ORDER, "regexp": None, "glob": None, "iglob": None},
}
"""Long flags with a value, and the form of the value."""

WITHOUT_PATTERN = frozenset({"files", "type-list"})

ALWAYS = (
    *("--no-config", "--color=never", "--no-follow", "--no-pre", "--no-search-zip", "--threads=2"),
    *("--max-filesize=20M", "--max-columns=500", "--max-columns-preview"),
    *("--no-ignore-parent", "--no-ignore-global", "--no-ignore-exclude", "--no-require-git"),
    *("--no-messages", "--no-ignore-messages"),
)
"""Comes after the model's flags, so that it wins.

Ignore files outside the root do not count. Messages about ignore files quote their lines, and such a file may
be a symlink to anywhere; `--no-ignore-messages` alone does not silence those of parent directories.
"""


@dataclass
class _Words:
    """The model's words, told apart as ripgrep does."""

    flags: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    patterns: list[str] = field(default_factory=list)
    operands: list[str] = field(default_factory=list)


def command(arguments: str, policy: PathPolicy) -> list[str]:
    """What follows `rg` on a command line, as the checked argv that follows the program's name.

    It is run in the policy's root.

    Raises:
        ToolError: for quotes that do not close, a flag that is not allowed (named), a bad value, no pattern,
            or a path that may not be read.
    """
    words = _told_apart(_split(arguments))
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


def _split(arguments: str) -> list[str]:
    if "\0" in arguments:
        raise ToolError("the arguments hold a NUL character")
    try:
        return shlex.split(arguments)
    except ValueError as error:
        raise ToolError(f"the arguments cannot be split into words: {error}") from None


def _told_apart(words: list[str]) -> _Words:
    found = _Words()
    rest = iter(words)
    for word in rest:
        if word == "--":
            found.operands.extend(rest)
        elif word.startswith("--"):
            _long(word, lambda: next(rest, None), found)
        elif word.startswith("-") and word != "-":
            _bundle(word, lambda: next(rest, None), found)
        else:
            found.operands.append(word)
    return found


def _long(word: str, following: Callable[[], str | None], found: _Words) -> None:
    """`--flag`, `--flag value` or `--flag=value`."""
    name, equals, value = word[2:].partition("=")
    if name in VALUES:
        _valued(f"--{name}", name, value if equals else following(), found)
    elif name in LONG_SWITCHES and not equals:
        _switch(name, found)
    else:
        raise _not_allowed(f"--{name}")


def _bundle(word: str, following: Callable[[], str | None], found: _Words) -> None:
    """`-i`, `-in`, `-tpy`, `-t py`, `-t=py`, `-inA3`: the first flag with a value takes the rest."""
    for position, letter in enumerate(word[1:], 1):
        if letter in VALUED:
            attached = word[position + 1 :]
            value = attached[1:] if attached.startswith("=") else attached or following()
            return _valued(f"-{letter}", VALUED[letter], value, found)
        if letter not in SWITCHES:
            raise _not_allowed(f"-{letter}" if len(word) == 2 else f"-{letter} (in {word})")
        _switch(SWITCHES[letter], found)


def _switch(name: str, found: _Words) -> None:
    found.names.add(name)
    found.flags.append(f"--{name}")


def _valued(shown: str, name: str, value: str | None, found: _Words) -> None:
    if value is None:
        raise ToolError(f"rg: {shown} needs a value")
    form = VALUES[name]
    if form is not None and not re.fullmatch(form, value):
        raise ToolError(f"rg: {shown} does not take {value!r}")
    if name == "regexp":
        found.patterns.append(value)
    else:
        found.flags.append(f"--{name}={value}")


def _not_allowed(flag: str) -> ToolError:
    short = " ".join(f"-{letter}" for letter in sorted(SWITCHES | VALUED))
    return ToolError(f"rg: the flag {flag} is not allowed here; allowed are {short} and some long ones")


def _root(policy: PathPolicy) -> str:
    """The whole root, which the user may have put where nothing may be read."""
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
    """Globs that keep a walk out of what is never read.

    They are `--iglob`s because ripgrep applies those after every `--glob`, and the last match wins; patterns
    are matched from the root, but an absolute path outside of it as a whole.
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
    """The ripgrep binary: of the `ripgrep` package beside this Python, or on an absolute part of PATH."""
    places = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
    places += [part for part in os.get_exec_path() if Path(part).is_absolute()]
    found = shutil.which("rg", path=os.pathsep.join(places))
    return Path(found) if found else None
