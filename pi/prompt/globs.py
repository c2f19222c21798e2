"""Files by pattern: a walk that follows no symlink, leaves no root and ends in time."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pi.prompt.limits import Deadline, ToolError
from pi.prompt.paths import PathPolicy

ALTERNATIVES = 64
"""Into how many patterns `{a,b}` may unfold."""


def find(pattern: str, base: Path, policy: PathPolicy, deadline: Deadline) -> Iterator[Path]:
    """Paths under the directory `base` that match, in no order, each once.

    `*`, `?` and `[...]` match within a name, `**` any number of directories, `{a,b}` either. As in a shell,
    names that begin with a dot need a pattern that does. Symlinks that lead to what may not be read are left
    out, and symlinked directories are not entered.

    Raises:
        ToolError: for a pattern that is absolute or holds "..", or when the time is over.
    """
    found: set[Path] = set()
    for alternative in _unfolded(pattern):
        for path in _matches(_parts(alternative), base, policy, deadline):
            if path not in found:
                found.add(path)
                yield path


def _unfolded(pattern: str) -> list[str]:
    """The patterns without braces that `pattern` stands for; nested braces from the inside out."""
    patterns, done = [pattern], []
    while patterns:
        current = patterns.pop()
        braces = re.search(r"\{([^{}]*,[^{}]*)\}", current)
        if braces is None:
            done.append(current)
            continue
        patterns += [current[: braces.start()] + word + current[braces.end() :] for word in braces[1].split(",")]
        if len(patterns) + len(done) > ALTERNATIVES:
            raise ToolError(f"the braces in the pattern stand for more than {ALTERNATIVES} patterns")
    return done


def _parts(pattern: str) -> tuple[str, ...]:
    """The pattern's components, without "." and repeated "**"."""
    if pattern.startswith("/") or "\0" in pattern:
        raise ToolError("the pattern must be relative; name the directory with `path`")
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if not parts:
        raise ToolError("the pattern is empty")
    if ".." in parts:
        raise ToolError('the pattern may not hold ".."; name the directory with `path`')
    return tuple(part for part, before in zip(parts, ["", *parts], strict=False) if (part, before) != ("**", "**"))


def _matches(parts: tuple[str, ...], base: Path, policy: PathPolicy, deadline: Deadline) -> Iterator[Path]:
    ahead: list[tuple[Path, tuple[str, ...]]] = [(base, parts)]
    seen: set[tuple[Path, int]] = set()
    while ahead:
        directory, (part, *rest) = ahead.pop()
        if (directory, len(rest)) in seen:
            continue
        seen.add((directory, len(rest)))
        anywhere = part == "**"
        if anywhere and rest:
            ahead.append((directory, tuple(rest)))
        for entry in _entries(directory, deadline):
            if entry.name.startswith(".") and not part.startswith("."):
                continue
            path = directory / entry.name
            enterable = entry.is_dir(follow_symlinks=False) and not policy.is_private(path)
            if anywhere and enterable:
                ahead.append((path, ("**", *rest)))
            if not anywhere and not fnmatch.fnmatchcase(entry.name, part):
                continue
            if not rest:
                if _readable(path, policy):
                    yield path
            elif enterable and not anywhere:
                ahead.append((path, tuple(rest)))


def _entries(directory: Path, deadline: Deadline) -> Iterator[os.DirEntry[str]]:
    deadline.check()
    try:
        with os.scandir(directory) as entries:
            while batch := list(islice(entries, 1000)):
                deadline.check()
                yield from batch
    except OSError:
        return


def _readable(path: Path, policy: PathPolicy) -> bool:
    try:
        policy.check(Path(os.path.realpath(path)))
    except ToolError:
        return False
    return True
