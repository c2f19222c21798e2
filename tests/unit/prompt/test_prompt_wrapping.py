"""Words wrapped at the edge of a terminal."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.prompt.wrapping import Wrapper, _width
from tests.unit.prompt.conftest import Prompt, says


def screen(printed: str) -> list[str]:
    """Return the lines that a terminal shows, with the escape sequences that a wrapper uses."""
    lines = [""]
    for token in re.findall(r"\x1b\[\d+D\x1b\[K|\x1b\[[0-9;]*m|\n|.", printed, re.DOTALL):
        if erased := re.fullmatch(r"\x1b\[(\d+)D\x1b\[K", token):
            count = int(erased[1])
            while count > 0:
                count -= _width(lines[-1][-1])
                lines[-1] = lines[-1][:-1]
        elif token == "\n":
            lines.append("")
        elif not token.startswith("\x1b"):
            lines[-1] += token
    return [line.rstrip(" ") for line in lines]


def wrapped(text: str, columns: int = 21, size: int = 1000) -> list[str]:
    wrapper = Wrapper(lambda: columns)
    return screen("".join(wrapper.feed(text[n : n + size]) for n in range(0, len(text), size)))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("The quick brown fox jumps over", ["The quick brown fox", "jumps over"]),
        ("exactly twenty chars and", ["exactly twenty chars", "and"]),
        ("one\ntwo three", ["one", "two three"]),
        ("a-very-long-word-that-has-no-space", ["a-very-long-word-that-has-no-space"]),
        ("see a-very-long-word-without-space", ["see", "a-very-long-word-without-space"]),
        ("```\na line of code that is too long\n```\nwords that are wrapped here", [
            *("```", "a line of code that is too long", "```", "words that are", "wrapped here")]),
        ("    indented code that is too long", ["    indented code that is too long"]),
        ("| a table | with | many | cells |", ["| a table | with | many | cells |"]),
        ("日本語のとても長い文章です", ["日本語のとても長い文", "章です"]),
        ("\x1b[1mThe quick\x1b[0m brown fox jumps", ["The quick brown fox", "jumps"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_words_are_wrapped_wherever_the_stream_is_split(text: str, lines: list[str], size: int) -> None:
    pieces = re.findall(rf"\x1b\[[0-9;]*m|[^\x1b]{{1,{size}}}", text)  # the sanitizer keeps sequences whole
    wrapper = Wrapper(lambda: 21)
    assert screen("".join(map(wrapper.feed, pieces))) == lines


def test_without_a_width_nothing_changes() -> None:
    assert Wrapper(lambda: 0).feed("The quick brown fox jumps over") == "The quick brown fox jumps over"


@given(st.text(alphabet="ab -|`\n日", max_size=80), st.integers(1, 9))
def test_wrapping_only_adds_newlines(text: str, size: int) -> None:
    kept = "".join(wrapped(text, 12, size))
    assert re.sub(r"[ \n]", "", kept) == re.sub(r"[ \n]", "", text)


def test_an_answer_on_a_terminal_is_wrapped_at_its_width(prompt: Prompt) -> None:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 24, 0, 0))
    prompt.server.answer(says("The quick brown", " fox jumps over the la", "zy dog"))
    with os.fdopen(slave, "w") as terminal:
        prompt("x", stdout=terminal, output="terminal")
        shown = os.read(master, 10_000).decode().replace("\r\n", "\n")
    os.close(master)
    assert screen(shown)[:2] == ["The quick brown fox", "jumps over the lazy dog"]
