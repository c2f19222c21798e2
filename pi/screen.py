"""Print results, tables, notes and progress. All text is made safe for a terminal and contains no secret."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from pi import redaction
from pi.errors import OutputError
from pi.on_pod.pace import paced
from pi.text import Sanitizer, one_line, safe

RUNNING_S = (5, 30)
"""Without a terminal: after how long a running text is printed, and how often then."""

CELL = 500
"""Maximum characters of a table cell."""


def colour(stream: object = None) -> bool:
    """Return whether pi may print colour: on a terminal, without NO_COLOR (https://no-color.org)."""
    stream = stream or sys.stdout
    return bool(getattr(stream, "isatty", bool)()) and not os.environ.get("NO_COLOR")


def width() -> int | None:
    """Return the columns of the terminal on stdout; None if it is not one, or does not say."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def printable(text: str) -> str:
    """Return `text` made safe for a terminal, without secrets. Call this before cutting the text."""
    return redaction.redacted(safe(text))


def say(text: str = "") -> None:
    reveal(printable(text))


def reveal(text: str) -> None:
    """Print text without hiding secrets in it."""
    with writing():
        print(f"{text}\n", end="", flush=True)


def say_json(document: object) -> None:
    """Print a value as indented JSON without secrets."""
    reveal(redaction.redacted(json.dumps(document, indent=2)))


def reveal_json(document: object) -> None:
    """Print a value as indented JSON without hiding secrets in it."""
    reveal(json.dumps(document, indent=2))


def say_json_line(document: object) -> None:
    """Print a value as JSON on one line, without secrets."""
    reveal(redaction.redacted(json.dumps(document)))


def show_again(lines: Sequence[str]) -> None:
    """Print lines in place of the screen's content; without a terminal, below what stands there."""
    if sys.stdout.isatty():
        reveal("\x1b[H" + "".join(f"{line}\x1b[K\n" for text in lines for line in text.split("\n")) + "\x1b[J")
    else:
        reveal("\n".join([*lines, ""]))


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
    """Print a line on stderr, in place of a progress line that stands there."""
    if Progress.drawn:
        Progress.drawn.wipe()
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


def columns(rows: Sequence[Sequence[str]], label: int | None = None) -> None:
    """Print rows in aligned columns without tabulate, whose import takes 40 ms.

    With `label`, if they are wider than the terminal, the last column follows below, after the cell at that place.
    """
    rows = [[one_line(cell, CELL) for cell in row] for row in rows]
    below: list[str] = []
    room, widths = width(), [max(map(len, column)) for column in zip(*rows, strict=True)]
    if label is not None and room and sum(widths) + GAP * (len(widths) - 1) > room:
        below = [f"  {row[label]}: {row[-1]}" for row in rows[1:]]
        rows, widths = [row[:-1] for row in rows], widths[:-1]
    for row in rows:
        say("  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip())
    for line in below:
        say(line)


def table(
    rows: Sequence[Sequence[object]],
    headers: Sequence[str],
    *,
    shrink: str = "",
    below: str = "",
    colours: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Print a table (see `table_text`)."""
    reveal(table_text(rows, headers, shrink=shrink, below=below, colours=colours))


def table_text(
    rows: Sequence[Sequence[object]],
    headers: Sequence[str],
    *,
    shrink: str = "",
    below: str = "",
    labels: int = 1,
    colours: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Return a table that fits the terminal, made safe and without secrets.

    If it is too wide, the cells under the header `shrink` are cut; if that is not enough, those under `below` follow
    the table, a line each after the first `labels` cells. `colours` are SGR parameters by header and cell.
    """
    cells = [[one_line(printable(str(cell)), CELL) for cell in row] for row in rows]
    headers, moved = list(headers), []
    room = width()
    if room and below and table_width(fitted(cells, headers, shrink, room), headers) > room:
        place = headers.index(below)
        moved = [f"  {'/'.join(row[:labels])}: {row[place]}" for row in cells if row[place]]
        cells, headers = [row[:place] + row[place + 1 :] for row in cells], headers[:place] + headers[place + 1 :]
    cells = fitted(cells, headers, shrink, room)
    if colours and colour():
        by_place = [colours.get(header, {}) for header in headers]
        cells = [[_painted(cell, codes.get(cell)) for cell, codes in zip(row, by_place, strict=True)] for row in cells]
    text = prepare_tables()(cells, headers=headers, tablefmt="plain", disable_numparse=True)
    return "\n".join([*map(str.rstrip, text.splitlines()), *moved])


def prepare_tables() -> Callable[..., str]:
    """Import what makes tables, and return it."""
    import tabulate

    tabulate.MIN_PADDING = 0  # of headers
    return tabulate.tabulate


def _painted(cell: str, code: str | None) -> str:
    return f"\x1b[{code}m{cell}\x1b[0m" if code else cell


GAP, SHORTEST = 2, 16
"""Columns between cells, and the characters to which a cell may be cut."""


def fitted(rows: Sequence[Sequence[str]], headers: Sequence[str], shrink: str, room: int | None) -> list[list[str]]:
    """Return the cells, those under the header `shrink` cut so far that the table is at most so many columns wide."""
    is_wide = room and shrink and (excess := table_width(rows, headers) - room) > 0
    return _cut(rows, headers.index(shrink), excess) if is_wide else list(map(list, rows))


def table_width(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> int:
    return sum(max(map(len, column)) + GAP for column in zip(headers, *rows, strict=True)) - GAP


def _cut(rows: Sequence[Sequence[str]], place: int, excess: int) -> list[list[str]]:
    """Cut the cells of a column in the middle, by so many characters at most."""
    longest = max(len(row[place]) for row in rows)
    kept = max(SHORTEST, longest - excess)
    return [[*row[:place], _shortened(row[place], kept), *row[place + 1 :]] for row in rows]


def _shortened(cell: str, limit: int) -> str:
    head = (limit - 1) // 2
    return cell if len(cell) <= limit else f"{cell[:head]}…{cell[len(cell) - (limit - 1 - head) :]}"


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


class LineOutput:
    """Streams text from a pod line by line to `put`, safe as `Output` makes it. Several may write at the same time."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self._put = put
        self._sanitizer = Sanitizer()
        self._redactor = redaction.stream()
        self._held = ""

    def write(self, text: str) -> None:
        self._feed(self._redactor.feed(self._sanitizer.feed(text)))

    def end(self) -> None:
        """Print the text that was held back."""
        self._feed(self._redactor.feed(self._sanitizer.flush()) + self._redactor.flush())
        if self._held:
            self._feed("\n")

    def _feed(self, text: str) -> None:
        *lines, self._held = (self._held + text).split("\n")
        for line in lines:
            self._put(line)


class Progress:
    """Progress on stderr: on a terminal one line that is drawn again, otherwise a line at most every 10 s.

    A running text (`run`) is drawn each second, so that its clock moves; a narrow terminal shortens the text. Without a
    terminal it is printed after 5 s and then every 30 s.
    """

    drawn: Progress | None = None
    """The one whose line stands on the terminal."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = ("", 0.0)
        self._open = False
        self._running: tuple[str, Callable[[], str]] | None = None
        self._due = 0.0
        self._drawing = threading.RLock()
        self._ticker: threading.Thread | None = None

    def show(self, text: str) -> None:
        """Show a text until the next one."""
        with self._drawing:
            self._running = None
            self._put(text)

    def run(self, text: str, clock: Callable[[], str], *, quiet: bool = False) -> None:
        """Show a text with a clock that moves. A `quiet` one appears without a terminal only if it lasts."""
        with self._drawing:
            self._running = (text, clock)
            self._due = time.monotonic() + paced(RUNNING_S[0])
            if self._live or not quiet:
                self._put(text, clock())
            if self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, daemon=True)
                self._ticker.start()

    def clear(self) -> None:
        with self._drawing:
            self._running = None
            self.wipe()

    def wipe(self) -> None:
        """Remove the line from the terminal; a running text is drawn again at its next second."""
        with self._drawing:
            if self._open:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                self._open, Progress.drawn = False, None

    def _tick(self) -> None:
        while True:
            time.sleep(1)
            with self._drawing, contextlib.suppress(OSError, ValueError):
                if self._running is None:
                    self._ticker = None
                    return
                if self._live or time.monotonic() >= self._due:
                    self._due = time.monotonic() + paced(RUNNING_S[1])
                    text, clock = self._running
                    self._put(text, clock(), always=True)

    def _put(self, text: str, clock: str = "", always: bool = False) -> None:
        text = printable(text).replace("\n", " ")
        last, printed_at = self._last
        if self._live:
            width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
            sys.stderr.write("\r\x1b[K" + (text[: max(0, width - len(clock))] + clock)[: max(1, width)])
            self._open, Progress.drawn = True, self
        elif always or (text != last and time.monotonic() - printed_at >= paced(10)):
            sys.stderr.write(text[: 160 - len(clock)] + clock + "\n")
        else:
            return
        sys.stderr.flush()
        self._last = (text, time.monotonic())


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    line = Progress()
    try:
        yield line
    finally:
        line.clear()


def gigabytes(count: float) -> str:
    """Format a number of bytes on a disk or network, such as "12.3 GB" or "640 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def seconds(duration: float) -> str:
    minutes, rest = divmod(round(duration), 60)
    return f"{duration:.1f} s" if duration < 100 else f"{minutes} min {rest} s"


def whole_seconds(duration: float) -> str:
    """Format a clock that moves, such as "42 s" or "3 min 5 s"."""
    minutes, rest = divmod(int(duration), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def clock_since(began: float, more: str = "") -> Callable[[], str]:
    """Return the clock of something that began at this time, such as " (42 s; last time 2 min 10 s)"."""
    return lambda: f" ({whole_seconds(time.monotonic() - began)}{more})"


def left(rest: float, per_second: float) -> str:
    """Format how long the rest of a download takes, such as ", about 2 min left"; empty if that is unknown."""
    if rest <= 0 or per_second <= 0 or rest / per_second > 86400:
        return ""
    return f", about {whole_seconds(max(1, rest / per_second))} left"


def ago(duration: float) -> str:
    """Format an age, such as "40 s ago", "12 min ago", "3 h ago" or "5 days ago"."""
    return f"{age(duration)} ago"


def age(duration: float) -> str:
    """Format a duration in one unit, such as "40 s", "12 min", "3 h" or "5 days"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if duration >= 2 * size:
            return f"{duration / size:.0f} {unit}"
    return f"{max(0, duration):.0f} s"


def clock(moment: float) -> str:
    """Format seconds since 1970 as local time, such as "14:03", with the date if it is not today."""
    then = time.localtime(moment)
    is_today = time.strftime("%F", then) == time.strftime("%F")
    return time.strftime("%H:%M" if is_today else "%F %H:%M", then)
