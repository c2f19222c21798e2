"""Text for a terminal: a corpus of escape sequences, each split at every character."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi import text
from pi.text import HELD_CHARACTERS, Sanitizer, one_line, safe

ESC = "\x1b"

# name, input, output without colour, output with colour
CORPUS = [
    ("plain text stays", "plain", "plain", "plain"),
    ("newlines and tabs stay", "a\n\tb\n", "a\n\tb\n", "a\n\tb\n"),
    ("unicode stays", "é 漢字 ✅ 👩‍🚀", "é 漢字 ✅ 👩‍🚀", "é 漢字 ✅ 👩‍🚀"),
    ("a carriage return and newline is one newline", "a\r\nb", "a\nb", "a\nb"),
    ("a lone carriage return cannot overwrite a line", "good\rbad", "good\nbad", "good\nbad"),
    ("two carriage returns and a newline are two lines", "a\r\r\nb", "a\n\nb", "a\n\nb"),
    ("a colour ends with its line", f"{ESC}[31mred\nb", "red\nb", f"{ESC}[31mred{ESC}[0m\nb"),
    ("a colour ends with the stream", f"{ESC}[1;32mok", "ok", f"{ESC}[1;32mok{ESC}[0m"),
    ("a colour that is reset needs no second reset", f"{ESC}[31mr{ESC}[0m\n", "r\n", f"{ESC}[31mr{ESC}[0m\n"),
    ("an empty reset counts", f"{ESC}[31mr{ESC}[m\n", "r\n", f"{ESC}[31mr{ESC}[m\n"),
    ("true colour with colons", f"{ESC}[38:2:1:2:3mx", "x", f"{ESC}[38:2:1:2:3mx{ESC}[0m"),
    ("256 colours", f"{ESC}[48;5;0mx", "x", f"{ESC}[48;5;0mx{ESC}[0m"),
    ("a colour with too many parameters", f"{ESC}[{'1;' * 40}mx", "x", "x"),
    ("a colour with an intermediate is another sequence", f"{ESC}[1 mx", "x", "x"),
    ("a private colour is another sequence", f"{ESC}[?1mx", "x", "x"),
    ("xterm key modifiers look like a colour", f"{ESC}[>4;2mx", "x", "x"),
    ("clear the screen", f"a{ESC}[2Jb", "ab", "ab"),
    ("clear the line", f"a{ESC}[2Kb", "ab", "ab"),
    ("cursor home", f"a{ESC}[Hb", "ab", "ab"),
    ("cursor up", f"a{ESC}[3Ab", "ab", "ab"),
    ("cursor to a place", f"a{ESC}[10;20Hb", "ab", "ab"),
    ("alternative screen", f"a{ESC}[?1049hb", "ab", "ab"),
    ("hide the cursor", f"a{ESC}[?25lb", "ab", "ab"),
    ("bracketed paste", f"a{ESC}[?2004hb", "ab", "ab"),
    ("mouse reports", f"a{ESC}[?1003;1006hb", "ab", "ab"),
    ("device status makes the terminal type", f"a{ESC}[6nb", "ab", "ab"),
    ("device attributes make the terminal type", f"a{ESC}[cb", "ab", "ab"),
    ("title report makes the terminal type", f"a{ESC}[21tb", "ab", "ab"),
    ("soft reset", f"a{ESC}[!pb", "ab", "ab"),
    ("insert mode", f"a{ESC}[4hb", "ab", "ab"),
    ("scroll region", f"a{ESC}[1;2rb", "ab", "ab"),
    ("title, ended by BEL", f"a{ESC}]0;owned\x07b", "ab", "ab"),
    ("title, ended by ST", f"a{ESC}]2;owned{ESC}\\b", "ab", "ab"),
    ("title, ended by an 8-bit ST", f"a{ESC}]2;owned\x9cb", "ab", "ab"),
    ("clipboard", f"a{ESC}]52;c;ZXZpbA==\x07b", "ab", "ab"),
    ("link", f"{ESC}]8;;http://e.vil{ESC}\\click{ESC}]8;;{ESC}\\", "click", "click"),
    ("palette query", f"a{ESC}]4;0;?\x07b", "ab", "ab"),
    ("iTerm file transfer", f"a{ESC}]1337;File=name=x:AAAA\x07b", "ab", "ab"),
    ("kitty graphics", f"a{ESC}_Gf=24,s=1;AAAA{ESC}\\b", "ab", "ab"),
    ("device control, sixel", f"a{ESC}Pq#0;2;0;0;0~-{ESC}\\b", "ab", "ab"),
    ("terminfo query", f"a{ESC}P+q544e{ESC}\\b", "ab", "ab"),
    ("privacy message", f"a{ESC}^secret{ESC}\\b", "ab", "ab"),
    ("start of string", f"a{ESC}Xsecret{ESC}\\b", "ab", "ab"),
    ("a string cancelled by CAN", f"a{ESC}]0;x\x18b", "ab", "ab"),
    ("a string broken off by another sequence", f"a{ESC}]0;x{ESC}[2Jb", "ab", "ab"),
    ("a string broken off by a colour", f"{ESC}]0;x{ESC}[31mb", "b", f"{ESC}[31mb{ESC}[0m"),
    ("full reset", f"a{ESC}cb", "ab", "ab"),
    ("save and restore the cursor", f"a{ESC}7b{ESC}8c", "abc", "abc"),
    ("reverse index", f"a{ESC}Mb", "ab", "ab"),
    ("line drawing charset", f"a{ESC}(0qqq", "aqqq", "aqqq"),
    ("screen alignment test", f"a{ESC}#8b", "ab", "ab"),
    ("UTF-8 off", f"a{ESC}%@b", "ab", "ab"),
    ("application keypad", f"a{ESC}=b", "ab", "ab"),
    ("escape twice", f"a{ESC}{ESC}[2Jb", "ab", "ab"),
    ("escape before a letter of another script", f"a{ESC}éb", "aéb", "aéb"),
    ("a sequence broken by a newline is text", f"a{ESC}[3\nb", "a[3\nb", "a[3\nb"),
    ("a sequence put together from two", f"a{ESC}{ESC}[0K[2Jb", "a[2Jb", "a[2Jb"),
    ("an 8-bit CSI", "a\x9b2Jb", "a2Jb", "a2Jb"),
    ("an 8-bit OSC", "a\x9d0;t\x9cb", "a0;tb", "a0;tb"),
    ("escape before an 8-bit CSI", f"a{ESC}\x9b2Jb", "a2Jb", "a2Jb"),
    ("bell, backspace, form feed, vertical tab", "a\x07\x08\x0b\x0cb", "ab", "ab"),
    ("NUL, DEL, shift out", "a\x00\x7f\x0eb", "ab", "ab"),
    ("next line and index", "a\x85\x84b", "ab", "ab"),
    ("bidirectional override", "a\u202egpj.exe\u202cb", "agpj.exeb", "agpj.exeb"),
    ("bidirectional isolate", "a\u2066\u2069b", "ab", "ab"),
    ("lone surrogate", "a\ud83db", "ab", "ab"),
    ("an unfinished sequence at the end", f"a{ESC}[31", "a[31", "a[31"),
    ("an unfinished string at the end", f"a{ESC}]0;x", "a]0;x", "a]0;x"),
    ("a lone escape at the end", f"a{ESC}", "a", "a"),
    ("a carriage return at the end", "a\r", "a\n", "a\n"),
]
CASES = [pytest.param(*case[1:], id=case[0]) for case in CORPUS]
COLOUR_ONLY = re.compile(r"\x1b\[[0-9;:]{0,32}m")
DANGEROUS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def streamed(pieces: list[str], colour: bool) -> str:
    sanitizer = Sanitizer(colour)
    return "".join([sanitizer.feed(piece) for piece in pieces]) + sanitizer.flush()


@pytest.mark.parametrize(("sent", "plain", "coloured"), CASES)
def test_only_colour_reaches_a_terminal(sent: str, plain: str, coloured: str) -> None:
    assert safe(sent) == plain
    assert safe(sent, colour=True) == coloured


@pytest.mark.parametrize(("sent", "plain", "coloured"), CASES)
def test_a_stream_is_safe_wherever_it_is_split(sent: str, plain: str, coloured: str) -> None:
    for first in range(len(sent) + 1):
        for second in range(first, len(sent) + 1):
            pieces = [sent[:first], sent[first:second], sent[second:]]
            assert streamed(pieces, colour=False) == plain
            assert streamed(pieces, colour=True) == coloured
    assert streamed(list(sent), colour=True) == coloured


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 40


@pytest.mark.parametrize("start", [f"{ESC}]0;", f"{ESC}P", f"{ESC}_", f"{ESC}["])
def test_a_sequence_that_never_ends_is_shown_as_text_after_4_kib(start: str) -> None:
    body = "1" * (HELD_CHARACTERS + 10)
    sanitizer = Sanitizer()
    assert sanitizer.feed(start + body) == (start + body)[1:], "not held back until the end"
    assert streamed(list(start + body), colour=True) == (start + body)[1:]


def test_the_longest_sequence_is_dropped_however_it_is_split() -> None:
    for length, expected in [
        (HELD_CHARACTERS, "b"),
        (HELD_CHARACTERS + 1, "]" + "x" * (HELD_CHARACTERS + 1) + "b"),
    ]:
        sent = f"{ESC}]{'x' * length}\x07b"
        assert safe(sent) == expected
        assert streamed([sent[:-2], sent[-2:]], colour=False) == expected


nasty = st.text(st.sampled_from(list("\x1b[]P_^X\\0;:?mJ\x07\x18\r\n\t\x9b\x9c\x9dax é\u202e\ud800 (#")), max_size=60)


@given(st.lists(nasty, max_size=6))
def test_any_stream_gives_the_same_text_however_it_is_split(pieces: list[str]) -> None:
    whole = "".join(pieces)
    for colour in (False, True):
        printed = streamed(pieces, colour)
        assert printed == safe(whole, colour)
        assert not DANGEROUS.search(COLOUR_ONLY.sub("", printed) if colour else printed)


@given(nasty)
def test_colour_never_reaches_the_next_line(text: str) -> None:
    for line in safe(text, colour=True).split("\n"):
        colours = COLOUR_ONLY.findall(line)
        assert not colours or colours[-1].strip("\x1b[m").strip("0;:") == ""


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [
        ("a\nb\t c", 20, "a b c"),
        (f"{ESC}[31mred{ESC}[0m", 20, "red"),
        ("x" * 30, 10, "x" * 9 + "…"),
        ("x" * 10, 10, "x" * 10),
    ],
)
def test_one_line_is_one_short_line(text: str, limit: int, line: str) -> None:
    assert one_line(text, limit) == line


LINES = [
    f"{ESC}[0;36m(EngineCore pid=7){ESC}[0;0m {ESC}[32mINFO{ESC}[0m {ESC}[90m11-23 10:00:00{ESC}[0m loading",
    "INFO 11-23 10:00:00 [core.py:99] plain",
    f"{ESC}[38;5;208m漢字 ✅{ESC}[m",
    f"{ESC}[1mopen at the end",
    "50%\r60%\r70%\r",
]


@pytest.mark.parametrize("colour", [False, True])
def test_a_log_with_colours_needs_no_search_for_other_sequences(colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That search takes four times as long."""
    log = "\n".join(LINES * 20)
    expected = safe(log, colour)
    with monkeypatch.context() as changed:
        changed.setattr(text, "_PARTS", None)
        sanitizer = Sanitizer(colour)
        printed = "".join(sanitizer.feed(log[start : start + 7]) for start in range(0, len(log), 7))
    assert printed + sanitizer.flush() == expected
    assert not DANGEROUS.search(COLOUR_ONLY.sub("", printed)) and "漢字 ✅" in printed
