"""What the tasks print: tables, progress, and lines from pods made safe for a terminal."""

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
"""Characters of a cell that are shown."""


def colour(stream: object = None) -> bool:
    """Whether colour may be written: a terminal, and no NO_COLOR (https://no-color.org)."""
    stream = stream or sys.stdout
    return bool(getattr(stream, "isatty", bool)()) and not os.environ.get("NO_COLOR")


def printable(text: str) -> str:
    """`text` as it may be printed: safe for a terminal, and with no secret in it. To be called before a cut."""
    return redaction.redacted(safe(text))


def say(text: str = "") -> None:
    reveal(printable(text))


def reveal(text: str) -> None:
    """Print what the user must see though it is a secret."""
    with writing():
        print(text, flush=True)


def flush() -> None:
    """Have all of stdout written."""
    with writing():
        sys.stdout.flush()


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Writing to stdout; raises OutputError where it cannot be, on a full disk. A reader that has left is no error."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        leave_stdout()
        raise OutputError("stdout-unwritable", f"cannot write to stdout: {error.strerror}") from None


def leave_stdout() -> None:
    """Send the rest of stdout nowhere, so that the end of the program does not try to write it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """A line beside the result, on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def columns(rows: Sequence[Sequence[str]]) -> None:
    """Rows with their cells under each other, for what must be quick: importing tabulate takes 40 ms."""
    rows = [[one_line(cell, CELL) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> None:
    from tabulate import tabulate

    cells = [[one_line(printable(str(cell)), CELL) for cell in row] for row in rows]
    reveal(tabulate(cells, headers=headers, tablefmt="plain", disable_numparse=True))


class Output:
    """Streams text of a pod to stdout, made safe and without secrets wherever the stream is split."""

    def __init__(self, raw: bool = False) -> None:
        self._sanitizer = None if raw else Sanitizer(colour=colour())
        self._redactor = redaction.stream()

    def write(self, text: str) -> None:
        self._put(self._redactor.feed(self._sanitizer.feed(text) if self._sanitizer else text))

    def end(self) -> None:
        """Print what was held back."""
        rest = self._sanitizer.flush() if self._sanitizer else ""
        self._put(self._redactor.feed(rest) + self._redactor.flush())

    def _put(self, text: str) -> None:
        with writing():
            sys.stdout.write(text)
            sys.stdout.flush()


class Progress:
    """One line that is rewritten on a terminal; elsewhere a new line when the words change, at most each 10 s."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = ("", 0.0)
        self._open = False

    def show(self, text: str) -> None:
        text = printable(text).replace("\n", " ")
        words, told = self._last
        if self._live:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            sys.stderr.write("\r\x1b[K" + text[: max(1, width - 1)])
            self._open = True
        elif text != words and time.monotonic() - told >= paced(10):
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
    """Bytes as people read them: "12.3 GiB", "640 MiB"."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def seconds(duration: float) -> str:
    minutes, rest = divmod(round(duration), 60)
    return f"{duration:.1f} s" if duration < 100 else f"{minutes} min {rest} s"


def ago(duration: float) -> str:
    """How long ago something was, in one unit: "40 s ago", "12 min ago", "3 h ago", "5 days ago"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if duration >= 2 * size:
            return f"{duration / size:.0f} {unit} ago"
    return f"{max(0, duration):.0f} s ago"


def clock(moment: float) -> str:
    """A moment (seconds since 1970) on this machine's clock: "14:03", with its date where that is not today."""
    then = time.localtime(moment)
    is_today = time.strftime("%F", then) == time.strftime("%F")
    return time.strftime("%H:%M" if is_today else "%F %H:%M", then)
