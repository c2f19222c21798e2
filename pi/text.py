"""Make text from models, pods, files and servers safe for a terminal, and format counts."""

from __future__ import annotations

import re

HELD_CHARACTERS = 4096
"""Maximum length of an escape sequence; a longer one is shown as text."""

_UNSAFE = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"

_BODY = rf"[^\x07\x18\x1a\x1b\x9c]{{0,{HELD_CHARACTERS}}}"

_PARAMETERS = rf"[0-?]{{0,{HELD_CHARACTERS}}}[ -/]{{0,16}}"

_ANY_UNSAFE = re.compile(rf"[{_UNSAFE}]")

_TOKEN = re.compile(
    rf"""
    (?P<text> [^{_UNSAFE}\n]+ )
    | (?P<newline> \r\n? | \n )
    | (?P<colour> \x1b\[ (?P<parameters> [0-9;:]{{0,32}} ) m )
    | (?P<dropped>
        \x1b\[ {_PARAMETERS} [@-~]                                       # CSI: cursor, modes, reports
      | \x1b[\]P_^X] {_BODY} (?: [\x07\x18\x1a\x9c] | \x1b\\ | (?=\x1b[^\\]) )  # OSC, DCS, APC, PM, SOS
      | \x1b [ -/]{{0,16}} [0-OQ-WYZ\\`-~]                               # two-character and charset sequences
      | [{_UNSAFE}]                                                      # anything else, alone
    )
    """,
    re.VERBOSE,
)

_UNFINISHED = re.compile(rf"\x1b (?: \[ {_PARAMETERS} | [\]P_^X] {_BODY} \x1b? | [ -/]{{0,16}} ) \Z", re.VERBOSE)

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
        if self._held or self._coloured or self._after_return or _ANY_UNSAFE.search(text):
            return self._sanitized(self._held + text, finished=False)
        return text

    def flush(self) -> str:
        """Return the rest as text, and the end of a colour. Call this when the stream ends."""
        rest = self._sanitized(self._held, finished=True)
        return rest + self._end_of_colour()

    def _sanitized(self, text: str, *, finished: bool) -> str:
        out: list[str] = []
        self._held = ""
        for token in _TOKEN.finditer(text):  # its last alternative takes any character, so nothing is skipped
            if token[0] == "\x1b" and not finished and _UNFINISHED.match(text, token.start()):
                self._held = text[token.start() :]
                break
            out.append(self._kept(token))
        return "".join(out)

    def _kept(self, token: re.Match[str]) -> str:
        after_return, self._after_return = self._after_return, token[0] == "\r"
        if token["text"]:
            return token["text"]
        if token["newline"]:
            return "" if after_return and token[0] == "\n" else self._end_of_colour() + "\n"
        if token["colour"] and self._colour:
            self._coloured = token["parameters"].strip("0;:") != ""
            return token[0]
        return ""

    def _end_of_colour(self) -> str:
        coloured, self._coloured = self._coloured, False
        return _RESET if coloured else ""


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
