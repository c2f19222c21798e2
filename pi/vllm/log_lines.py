"""Split a log of vLLM into lines: who wrote each, at what level, and what stands around progress bars."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pi.text import safe

MAX_CHARACTERS = 500
"""Characters that pi shows of one line."""

MAX_LINES_READ = 10_000
"""Counted from the end of the log; 256 KiB of a vLLM log have about 2,500 lines."""


class Line(NamedTuple):
    """A line of the log with its prefix parsed; `process` and `level` are empty if vLLM wrote none."""

    at: int
    """Its place in the list of lines."""
    number: int
    """Its line in the log, from 1."""
    process: str
    level: str
    text: str

    @property
    def may_fail(self) -> bool:
        """Whether it is not a message below an error."""
        return self.level in ("", "ERROR", "CRITICAL")


def read(log: str) -> list[Line]:
    """Return the written lines of a log, without colours and without what a container's log adds in front."""
    written = log.split("\n")
    first = max(0, len(written) - MAX_LINES_READ)
    numbered = [
        (number, text)
        for number, line in enumerate(written[first:], first + 1)
        for text in safe(_unescaped(line[: 8 * MAX_CHARACTERS])).split("\n")
        if text and not text.isspace()
    ]
    lines: list[Line] = []
    for number, text in _without_foreign(numbered):
        for process, level, part in _parts(_COLOUR.sub("", text)):
            lines.append(Line(len(lines), number, process, level, part))
    return lines


_LINE = re.compile(
    r"""
    \A
    (?: \( ( [A-Za-z_][\w-]* (?:\ [\w=]{1,20})? \ pid=\d+ ) [^)]{0,100} \) \ ? ){0,3}
    (?: \[rank\d+\]: \ ? )?
    (?: ( DEBUG|INFO|WARNING|ERROR|CRITICAL ) \ \d\d-\d\d\ \d\d:\d\d:\d\d (?: \ \[? [^\]\s]+ :\d+\] )? \ ? )?
    ( .* )
    """,
    re.VERBOSE,
)
"""(EngineCore pid=95) ERROR 11-23 14:29:12 [core.py:1510] TEXT, in all variants since vLLM 0.4.

Of several processes in front, the last is the one that wrote the line.
"""

_COLOUR = re.compile(r"(?:ESC|\^\[|\\(?:x1b|033|e))?\[(?:0|1|[349]\d)(?:;\d{1,3}){0,4}m")
"""Rests of colours that lost their escape character, or have its name instead, when somebody copied the log."""

_FOREIGN = [
    re.compile(pattern)
    for pattern in (
        r"\A[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S{1,80} [\w./@-]{1,80}(?:\[\d+\])?: ",
        r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S{0,20} \S{1,80} [\w./@-]{1,80}\[\d+\]: ",
        r"\A\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?(?: (?:stdout|stderr) [FP]| \|)? ",
        r"\A[A-Za-z][\w.-]{0,60} +\| ",
        r"\A\[[\w./@:-]{1,120}\] ",
        r"\A {0,6}\d{1,7}(?:\t|: | ?\| ?)",
        r"\A> ?",
    )
]
"""What journald, Kubernetes, Docker, an editor and a quotation put before each line."""

MOST_FOREIGN = 3
"""Prefixes of one line, as of `docker compose logs -t`."""

_ESCAPES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&amp;": "&"}

_BAR = re.compile(
    r"(?:(?:Loading|Capturing|Fetching|Downloading|Processed|Multi-thread|Compiling|Profiling|Converting|\w*[Ww]arm)"
    r"[^|%\n]{0,100})?\s{0,10}\d{1,3}%(?: Completed)?\s?\|(?:[^|\n]{0,200}\|)?\s?[\d.?kMGB]{1,12}/[\d.?kMGB]{1,12}"
    r"(?: \[[^\]\n]{0,80}\])?"
)
"""A progress bar of tqdm, with its description if vLLM or the hub wrote it."""


def _without_foreign(numbered: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return numbered lines without the prefixes that most of them have, and that are not vLLM's."""
    for _ in range(MOST_FOREIGN):
        for pattern in _FOREIGN:
            if sum(1 for _, text in numbered if pattern.match(text)) * 2 > len(numbered):
                numbered = [(number, pattern.sub("", text, count=1)) for number, text in numbered]
                break
        else:
            break
    return numbered


def _unescaped(line: str) -> str:
    """Return a line as it was before a web page or an editor changed its characters."""
    for escape, character in _ESCAPES.items() if "&" in line else ():
        line = line.replace(escape, character)
    return re.sub("[“”]", '"', line) if "File “" in line else line


def _parts(line: str) -> Iterator[tuple[str, str, str]]:
    """Yield process, level and text of a line; what stands before or after a progress bar is a line of its own."""
    process, level, text = _parsed(line[: 4 * MAX_CHARACTERS])
    bar = _BAR.search(text) if "%" in text else None
    if bar is None:
        yield process, level, text
        return
    for part in (text[: bar.start()], bar[0], text[bar.end() :]):
        if part.strip():
            inner, inner_level, rest = _parsed(part.rstrip())
            yield inner or process, inner_level or level, rest


def _parsed(line: str) -> tuple[str, str, str]:
    [(process, level, text)] = _LINE.findall(line)
    return process, level, text.rstrip()
