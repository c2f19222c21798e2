"""Print results, tables, notes and progress. All text is made safe for a terminal and contains no secret."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence

from pi import redaction
from pi.errors import OutputError
from pi.on_pod.pace import paced
from pi.text import Sanitizer, one_line, safe

CELL = 500
"""Maximum characters of a table cell."""


def colour(stream: object = None) -> bool:
    """Return whether pi may print colour: on a terminal, without NO_COLOR (https://no-color.org)."""
    stream = stream or sys.stdout
    return bool(getattr(stream, "isatty", bool)()) and not os.environ.get("NO_COLOR")


def printable(text: str) -> str:
    """Return `text` made safe for a terminal, without secrets. Call this before cutting the text."""
    return redaction.redacted(safe(text))


def say(text: str = "") -> None:
    reveal(printable(text))


def reveal(text: str) -> None:
    """Print text without hiding secrets in it."""
    with writing():
        print(text, flush=True)


def flush() -> None:
    """Flush stdout."""
    with writing():
        sys.stdout.flush()


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Wrap writes to stdout. Raises OutputError if they fail; a BrokenPipeError passes through."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        leave_stdout()
        raise OutputError("stdout-unwritable", f"cannot write to stdout: {error.strerror}") from None


def leave_stdout() -> None:
    """Discard the rest of stdout, so that Python does not write it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Print a line on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def has_terminal() -> bool:
    """Return whether notes appear on a terminal."""
    return sys.stderr.isatty()


def can_ask() -> bool:
    """Return whether a user sits at a terminal, sees questions and can answer them."""
    return sys.stdin.isatty() and has_terminal()


def ask(question: str) -> str:
    """Print a question on stderr and return the line that the user types; empty at the end of the input."""
    sys.stderr.write(printable(question) + " ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer.strip()


def columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns without tabulate, whose import takes 40 ms."""
    rows = [[one_line(cell, CELL) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> None:
    from tabulate import tabulate

    cells = [[one_line(printable(str(cell)), CELL) for cell in row] for row in rows]
    reveal(tabulate(cells, headers=headers, tablefmt="plain", disable_numparse=True))


class Output:
    """Streams text from a pod to stdout, made safe and without secrets, wherever the stream is split."""

    def __init__(self, raw: bool = False) -> None:
        self._sanitizer = None if raw else Sanitizer(colour=colour())
        self._redactor = redaction.stream()

    def write(self, text: str) -> None:
        self._put(self._redactor.feed(self._sanitizer.feed(text) if self._sanitizer else text))

    def end(self) -> None:
        """Print the text that was held back."""
        rest = self._sanitizer.flush() if self._sanitizer else ""
        self._put(self._redactor.feed(rest) + self._redactor.flush())

    def _put(self, text: str) -> None:
        with writing():
            sys.stdout.write(text)
            sys.stdout.flush()


class Progress:
    """Progress on stderr: one rewritten line on a terminal, otherwise a new line at most every 10 s."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = ("", 0.0)
        self._open = False

    def show(self, text: str) -> None:
        text = printable(text).replace("\n", " ")
        last, printed_at = self._last
        if self._live:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            sys.stderr.write("\r\x1b[K" + text[: max(1, width - 1)])
            self._open = True
        elif text != last and time.monotonic() - printed_at >= paced(10):
            sys.stderr.write(text[:160] + "\n")
        else:
            return
        sys.stderr.flush()
        self._last = (text, time.monotonic())

    def clear(self) -> None:
        if self._open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._open = False


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    line = Progress()
    try:
        yield line
    finally:
        line.clear()


def gib(count: float) -> str:
    """Format a number of bytes, such as "12.3 GiB" or "640 MiB"."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def seconds(duration: float) -> str:
    minutes, rest = divmod(round(duration), 60)
    return f"{duration:.1f} s" if duration < 100 else f"{minutes} min {rest} s"


def ago(duration: float) -> str:
    """Format an age in one unit, such as "40 s ago", "12 min ago", "3 h ago" or "5 days ago"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if duration >= 2 * size:
            return f"{duration / size:.0f} {unit} ago"
    return f"{max(0, duration):.0f} s ago"


def clock(moment: float) -> str:
    """Format seconds since 1970 as local time, such as "14:03", with the date if it is not today."""
    then = time.localtime(moment)
    is_today = time.strftime("%F", then) == time.strftime("%F")
    return time.strftime("%H:%M" if is_today else "%F %H:%M", then)
