"""Find files by pattern, in limited time, without following symlinks or leaving the root."""

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
"""Most patterns that `{a,b}` may expand into."""


def find(pattern: str, base: Path, policy: PathPolicy, deadline: Deadline) -> Iterator[Path]:
    """Yield each matching path under the directory `base` once, in any order.

    `*`, `?` and `[...]` match within a name, `**` any number of directories, `{a,b}` either. As in a shell,
    only a pattern that begins with a dot matches hidden names. Omits symlinks to unreadable places, and does not
    enter symlinked directories.

    Raises:
        ToolError: if the pattern is absolute or contains "..", or the time is up.
    """
    seen: set[Path] = set()
    for alternative in _expanded(pattern):
        for path in _matches(_parts(alternative), base, policy, deadline):
            if path not in seen:
                seen.add(path)
                yield path


def _expanded(pattern: str) -> list[str]:
    """Return the patterns that result from the braces; nested ones expand from the inside."""
    patterns, done = [pattern], []
    while patterns:
        current = patterns.pop()
        braces = re.search(r"\{([^{}]*,[^{}]*)\}", current)
        if braces is None:
            done.append(current)
            continue
        patterns += [current[: braces.start()] + word + current[braces.end() :] for word in braces[1].split(",")]
        if len(patterns) + len(done) > ALTERNATIVES:
            raise ToolError(f"the braces expand to more than {ALTERNATIVES} patterns")
    return done


def _parts(pattern: str) -> tuple[str, ...]:
    """Return the components of a pattern, without "." and repeated "**"."""
    if pattern.startswith("/") or "\0" in pattern:
        raise ToolError("the pattern must be relative; pass the directory as `path`")
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if not parts:
        raise ToolError("the pattern is empty")
    if ".." in parts:
        raise ToolError('the pattern must not contain ".."; pass the directory as `path`')
    return tuple(part for part, before in zip(parts, ["", *parts], strict=False) if (part, before) != ("**", "**"))


def _matches(parts: tuple[str, ...], base: Path, policy: PathPolicy, deadline: Deadline) -> Iterator[Path]:
    pending: list[tuple[Path, tuple[str, ...]]] = [(base, parts)]
    seen: set[tuple[Path, int]] = set()
    while pending:
        directory, (part, *rest) = pending.pop()
        if (directory, len(rest)) in seen:
            continue
        seen.add((directory, len(rest)))
        anywhere = part == "**"
        if anywhere and rest:
            pending.append((directory, tuple(rest)))
        for entry in _entries(directory, deadline):
            if entry.name.startswith(".") and not part.startswith("."):
                continue
            path = directory / entry.name
            enterable = entry.is_dir(follow_symlinks=False) and not policy.is_private(path)
            if anywhere and enterable:
                pending.append((path, ("**", *rest)))
            if not anywhere and not fnmatch.fnmatchcase(entry.name, part):
                continue
            if not rest:
                if _readable(path, policy):
                    yield path
            elif enterable and not anywhere:
                pending.append((path, tuple(rest)))


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
