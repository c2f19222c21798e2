"""Make text from models, pods, files and servers safe for a terminal, and format counts."""

from __future__ import annotations

import re

HELD_CHARACTERS = 4096
"""Maximum length of an escape sequence; a longer one is shown as text."""

_UNSAFE = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"

_BODY = rf"[^\x07\x18\x1a\x1b\x9c]{{0,{HELD_CHARACTERS}}}"

_PARAMETERS = rf"[0-?]{{0,{HELD_CHARACTERS}}}[ -/]{{0,16}}"

_ANY_UNSAFE = re.compile(rf"[{_UNSAFE}]")

_CONTROLS = tuple(map(chr, (*range(9), *range(11, 32), 127)))
"""The unsafe characters of ASCII. Looking for each of them takes a ninth of the time of a pattern."""

_COLOUR = r"\x1b\[ [0-9;:]{0,32} m"

_UNFINISHED = rf"\x1b (?: \[ {_PARAMETERS} | [\]P_^X] {_BODY} \x1b? | [ -/]{{0,16}} ) \Z"


_PARTS = re.compile(
    rf"""
    (?P<newline> \r\n? | \n )
    | (?P<colour> {_COLOUR} )
    | \x1b\[ {_PARAMETERS} [@-~]                                         # CSI: cursor, modes, reports
    | \x1b[\]P_^X] {_BODY} (?: [\x07\x18\x1a\x9c] | \x1b\\ | (?=\x1b[^\\]) )  # OSC, DCS, APC, PM, SOS
    | \x1b [ -/]{{0,16}} [0-OQ-WYZ\\`-~]                                 # two-character and charset sequences
    | (?P<unfinished> {_UNFINISHED} )
    | [{_UNSAFE}]                                                        # anything else, alone
    """,
    re.VERBOSE,
)
"""All that cannot be printed as it is."""

_ANY_COLOUR = re.compile(_COLOUR, re.VERBOSE)

_ANY_RESET = re.compile(r"\x1b\[ [0;:]{0,32} m", re.VERBOSE)

_ANY_UNFINISHED = re.compile(_UNFINISHED, re.VERBOSE)

_RESET = "\x1b[0m"


class Sanitizer:
    """Makes a stream of text safe, wherever it is split.

    Newlines and tabs stay, and carriage returns become newlines. With `colour`, colour sequences (SGR) also
    stay and end with their line. Every other escape sequence, control character, bidirectional override and
    lone surrogate is dropped. A sequence that never ends is shown as text, without its escape character.
    """

    def __init__(self, colour: bool = False) -> None:
        self._colour = colour
        self._held = ""
        self._coloured = False
        self._after_return = False

    def feed(self, text: str) -> str:
        """Return the text that is safe to print now. Hold back an unfinished sequence."""
        text, self._held = self._held + text, ""
        if not text:
            return ""
        after_return, self._after_return = self._after_return, text.endswith("\r")
        if after_return and text.startswith("\n"):
            text = text[1:]
        quick = self._if_only_coloured(text)
        return _PARTS.sub(self._kept, text) if quick is None else quick

    def flush(self) -> str:
        """Return the rest as text, and the end of a colour. Call this when the stream ends."""
        rest = _PARTS.sub(self._kept, self._held[1:]) + self._end_of_colour()
        self._held = ""
        return rest

    def _if_only_coloured(self, text: str) -> str | None:
        """Return the safe text if colours and carriage returns are all that is unsafe in it, as in most logs."""
        escape = text.rfind("\x1b")
        finished = escape if escape >= 0 and _ANY_UNFINISHED.match(text, escape) else len(text)
        whole = text[:finished]
        if "\r" in whole:
            whole = whole.replace("\r\n", "\n").replace("\r", "\n")
        bare, colours = _ANY_COLOUR.subn("", whole) if escape >= 0 else (whole, 0)
        if not _is_safe(bare) or (escape >= 0 and colours != whole.count("\x1b")):
            return None
        self._held = text[finished:]
        return self._with_resets(whole) if self._colour and (colours or self._coloured) else bare

    def _with_resets(self, text: str) -> str:
        """End each colour with its line."""
        lines, coloured = text.split("\n"), self._coloured
        for number, line in enumerate(lines, 1):
            if (escape := line.rfind("\x1b")) >= 0:
                coloured = not _ANY_RESET.match(line, escape)
            if coloured and number < len(lines):
                lines[number - 1] += _RESET
                coloured = False
        self._coloured = coloured
        return "\n".join(lines)

    def _kept(self, part: re.Match[str]) -> str:
        """Return what may be printed of a part that is not plain text."""
        if part["newline"]:
            return self._end_of_colour() + "\n"
        if part["colour"] and self._colour:
            self._coloured = not _ANY_RESET.match(part[0])
            return part[0]
        self._held = part["unfinished"] or ""
        return ""

    def _end_of_colour(self) -> str:
        coloured, self._coloured = self._coloured, False
        return _RESET if coloured else ""


def _is_safe(text: str) -> bool:
    """Return whether nothing in the text is unsafe."""
    if text.isascii():
        return not any(control in text for control in _CONTROLS)
    return not _ANY_UNSAFE.search(text)


def safe(text: str, colour: bool = False) -> str:
    """Return `text` made safe for a terminal (see `Sanitizer`)."""
    sanitizer = Sanitizer(colour)
    return sanitizer.feed(text) + sanitizer.flush()


def one_line(text: str, limit: int = 200) -> str:
    """Return `text` made safe, without colour, on one line of at most `limit` characters; "…" marks a cut."""
    line = " ".join(safe(text[: 16 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def well_formed(text: str) -> str:
    """Replace lone surrogates, as in file names that are not UTF-8, by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def count(number: int, thing: str) -> str:
    """Return a number with its noun, such as "1 GPU", "2 GPUs" or "1,000 tokens"."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
