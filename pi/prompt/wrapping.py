"""Wrap words at the edge of a terminal, wherever the stream of text is split."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

TAB = 8

_TOKEN = re.compile(r"(?P<newline>\n)|(?P<tab>\t)|(?P<space> )|(?P<style>\x1b\[[0-9;:]*m)|(?P<word>[^\n\t \x1b]+|\x1b)")

_ERASE = "\x1b[{}D\x1b[K"
"""Moves the cursor back over the beginning of a word, and erases it."""


class Wrapper:
    """Begins a new line before a word that does not fit. Lines of code and of tables stay as they are.

    `columns` returns the width of the terminal now, 0 if unknown. The last column stays empty: there, terminals
    differ in where the cursor is. A word is printed as it comes, and moves to the next line if it grows too long.
    """

    def __init__(self, columns: Callable[[], int]) -> None:
        self._columns = columns
        self._column = 0
        self._word = ""
        self._word_width = 0
        self._line = ""
        self._fenced = False

    def feed(self, text: str) -> str:
        """Return the text to print."""
        limit = self._columns() - 1
        if limit < 2:
            return text
        return "".join(self._printed(match.lastgroup or "", match[0], limit) for match in _TOKEN.finditer(text))

    def new_line(self) -> None:
        """Note that the cursor is at the beginning of a line."""
        self._column = self._word_width = 0
        self._word = self._line = ""

    def _printed(self, kind: str, text: str, limit: int) -> str:
        if kind == "newline":
            self._fenced ^= self._line.lstrip().startswith(("```", "~~~"))
            self.new_line()
            return text
        if kind == "style":
            self._word += text
            return text
        self._line = (self._line + text)[:80]
        if kind == "word":
            return "".join(self._part(part, limit) for part in _parts(text))
        self._word, self._word_width = "", 0
        width = TAB - self._column % TAB if kind == "tab" else 1
        if self._column + width > limit and not self._is_kept():
            return ""
        self._column += width
        return text

    def _part(self, part: str, limit: int) -> str:
        """Print a part of a word; a wide character is a word of its own."""
        width = sum(map(_width, part))
        if width > len(part) - 1 and _width(part[0]) == 2:
            self._word, self._word_width = "", 0
        start = self._column - self._word_width
        whole, before = self._word + part, self._word_width
        self._word, self._word_width = whole, before + width
        self._column += width
        if self._column <= limit or start == 0 or self._is_kept():
            return part
        self._column = self._word_width
        return (_ERASE.format(before) if before else "") + "\n" + whole

    def _is_kept(self) -> bool:
        line = self._line
        return self._fenced or line.startswith(("    ", "\t")) or line.lstrip().startswith(("|", "```", "~~~"))


def _parts(word: str) -> list[str]:
    """Split a word at characters that take two columns: text in them has no spaces."""
    return re.findall(r"[\u1100-\uffff\U0001f000-\U0003ffff]|[^\u1100-\uffff\U0001f000-\U0003ffff]+", word)


def _width(character: str) -> int:
    """Return how many columns a character takes."""
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
