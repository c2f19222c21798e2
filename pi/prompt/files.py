"""The tools `ls`, `read`, `glob` and `rg`: read files, return text for a model."""

from __future__ import annotations

import fnmatch
import io
import json
import os
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

from pi.prompt import child, globs, ripgrep
from pi.prompt.limits import RESULT_BYTES, Deadline, ToolError, cut
from pi.prompt.paths import PathPolicy, kind_of_file
from pi.text import count

LINES = 2000
"""Most lines that `read` returns."""

LINE_BYTES = 4000
"""Most bytes of one line that `read` returns."""

ENTRIES = 1000
"""Most names that `ls` and `glob` return."""

NOTE_BYTES = 200
"""Bytes reserved for the note about omitted names."""


def ls(policy: PathPolicy, deadline: Deadline, path: str, ignore: Sequence[str] = ()) -> str:
    """List a directory, one name a line.

    The forms are `name`, `name/`, `name -> target` and `name (a named pipe)`.
    """
    directory = policy.resolve(path)
    descriptor = policy.open_directory(directory)
    try:
        with os.scandir(descriptor) as entries:
            lines = []
            for entry in entries:
                deadline.check()
                if not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in ignore):
                    lines.append(_entry_line(entry, descriptor))
    except OSError as error:
        raise ToolError(f"cannot list {directory}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return _listed(sorted(lines), "the directory is empty")


def _entry_line(entry: os.DirEntry[str], directory: int) -> str:
    name = _shown(entry.name)
    if entry.is_symlink():
        return f"{name} -> {_shown(os.readlink(entry.name, dir_fd=directory))}"
    if entry.is_dir(follow_symlinks=False):
        return f"{name}/"
    if entry.is_file(follow_symlinks=False):
        return name
    return f"{name} ({kind_of_file(entry.stat(follow_symlinks=False).st_mode)})"


def _shown(name: str) -> str:
    """Return a file name on one line, quoted as JSON if it contains unprintable characters."""
    return name if name.isprintable() else json.dumps(name)


def _listed(lines: list[str], if_empty: str) -> str:
    shown = _fitting(lines)
    left_out = len(lines) - len(shown)
    return ("\n".join(shown) or f"[{if_empty}]") + (f"\n[{left_out} more, not shown]" if left_out else "")


def _fitting(lines: list[str]) -> list[str]:
    """Return the first lines, each whole, that fit into a result."""
    available = RESULT_BYTES - NOTE_BYTES
    sizes = accumulate(len(line.encode("utf-8", "replace")) + 1 for line in lines[:ENTRIES])
    return lines[: sum(size <= available for size in sizes)]


def glob(policy: PathPolicy, deadline: Deadline, pattern: str, path: str = ".") -> str:
    """Return absolute paths that match, sorted, one a line."""
    base = policy.resolve(path)
    if not base.is_dir():
        raise ToolError(f"{path} is not a directory")
    matches = list(islice(globs.find(pattern, base, policy, deadline), ENTRIES + 1))
    lines = _fitting([_shown(str(match)) for match in sorted(matches[:ENTRIES])])
    note = f"\n[only the first {len(lines)} matches are shown; use a narrower pattern]"
    return ("\n".join(lines) or "[no file matches]") + (note if len(matches) > len(lines) else "")


def read(policy: PathPolicy, deadline: Deadline, file_path: str, offset: int = 1, limit: int = LINES) -> str:
    """Return lines of a text file from line `offset`, and a note about omitted ones."""
    path = policy.resolve(file_path)
    if path.is_dir():
        raise ToolError(f"{file_path} is a directory; list it with ls")
    with os.fdopen(policy.open_file(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if b"\0" in file.read(8192):
            return f"[binary file, {count(size, 'byte')}]"
        file.seek(0)
        return _lines(file, offset, min(limit, LINES), deadline) or f"[empty file, {count(size, 'byte')}]"


def _lines(file: io.BufferedReader, offset: int, most: int, deadline: Deadline) -> str:
    shown: list[str] = []
    available = RESULT_BYTES
    for number, line in islice(enumerate(_bounded_lines(file, deadline), 1), offset - 1, None):
        if len(line) <= available:
            shown.append(line.decode("utf-8", "replace"))
            available -= len(line)
            if len(shown) < most or not file.peek(1):
                continue
            number += 1
        shown.append(f"[cut: lines {offset} to {number - 1} are shown; continue with offset {number}]")
        break
    if not shown and offset > 1:
        return f"[the file has fewer than {offset} lines]"
    return "".join(shown)


def _bounded_lines(file: io.BufferedReader, deadline: Deadline) -> Iterator[bytes]:
    """Yield lines with their ends; cut long ones, with a note, to limit memory."""
    while line := file.readline(LINE_BYTES):
        deadline.check()
        if line.endswith(b"\n") or file.peek(1)[:1] in (b"", b"\n"):
            yield line if line.endswith(b"\n") else line + file.readline(1)
            continue
        yield line + f" [cut: a line of more than {LINE_BYTES:,} bytes]\n".encode()
        while not file.readline(65536).endswith(b"\n") and file.peek(1):
            deadline.check()


def rg(policy: PathPolicy, deadline: Deadline, args: str) -> str:
    """Return the output of ripgrep. Raises ToolError if it could not search."""
    binary = ripgrep.find()
    if binary is None:
        raise ToolError("ripgrep is not installed on the user's machine; use glob and read instead")
    with ripgrep.opened(ripgrep.command(args, policy), policy) as search:
        finished = child.run([binary, *search.words], policy.root, deadline, RESULT_BYTES, search.descriptors)
        search.check()
    output = search.named(finished.output.decode("utf-8", "replace"))
    if finished.exit_code is None:
        return cut(output, "", RESULT_BYTES) + "\n[cut: too much output; use a narrower pattern, path or --max-count]"
    if finished.exit_code == 2 and output.startswith(("rg:", "error:", "regex parse error:")):
        raise ToolError(output.strip())
    if finished.exit_code < 0:
        raise ToolError(f"signal {-finished.exit_code} killed ripgrep; use a narrower search")
    unread = "" if finished.exit_code < 2 else "[some files could not be read]"
    if output:
        return output + unread
    return f"[no matches]{unread}" if finished.exit_code else "[matches found]"
