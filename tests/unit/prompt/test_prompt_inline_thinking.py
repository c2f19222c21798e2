"""Thinking inside the text, split wherever a stream may be."""

from __future__ import annotations

import pytest

from pi.prompt.answer import Answer
from pi.prompt.inline_thinking import LONE_ENDS, PAIRS, Splitter

# text of a model: its answer, its thinking
TEXTS = {
    "<think>plan</think>Answer.": ("Answer.", "plan"),
    "\n<think>\nplan\n</think>\n\nAnswer.": ("Answer.", "\nplan\n"),
    "plan\n</think>\n\nAnswer.": ("Answer.", "plan\n"),
    "</think>\n\nAnswer.": ("Answer.", ""),
    "<think>a</think>One.\n<think>b</think>\nTwo.": ("One.\n\nTwo.", "ab"),
    "<think>never ends": ("", "never ends"),
    "<think>a < b and <b></think>c": ("c", "a < b and <b>"),
    "Use <think> tags.": ("Use <think> tags.", ""),
    "Close it with </think> and go on.": ("Close it with </think> and go on.", ""),
    "Close it with `</think>`.": ("Close it with `</think>`.", ""),
    "```\n<think>\n</think>\n```\n": ("```\n<think>\n</think>\n```\n", ""),
    "1 < 2 [a] <b>": ("1 < 2 [a] <b>", ""),
    "<thi": ("<thi", ""),
    "": ("", ""),
}


def read(pieces: list[str], assumed: str | None = None) -> Answer:
    answer = Answer(inline=Splitter(assumed))
    for piece in pieces:
        answer.add_text(piece)
    answer.finish = "stop"
    answer.close()
    return answer


@pytest.mark.parametrize("text", TEXTS)
def test_text_and_thinking_are_separated_wherever_they_are_split(text: str) -> None:
    for size in (1, 2, 3, 7, 1000):
        answer = read([text[n : n + size] for n in range(0, len(text), size)])
        assert answer.text() == TEXTS[text][0]
        assert "".join(answer.inline_thinking).strip() == TEXTS[text][1].strip()
    for position in range(len(text)):
        assert read([text[:position], text[position:]]).text() == TEXTS[text][0]


@pytest.mark.parametrize("begin", PAIRS)
def test_every_pair_of_tags_is_known(begin: str) -> None:
    answer = read(list(f"{begin}plan{PAIRS[begin]}Answer."))
    assert (answer.text(), "".join(answer.inline_thinking)) == ("Answer.", "plan")
    if PAIRS[begin] in LONE_ENDS:
        assert read(list(f"plan\n{PAIRS[begin]}\nAnswer.")).text() == "Answer."


@pytest.mark.parametrize(
    ("text", "answer", "thinking"),
    [
        ("plan</think>Answer.", "Answer.", "plan"),
        ("<think>plan</think>Answer.", "Answer.", "plan"),
        ("Answer alone.", "Answer alone.", ""),
    ],
)
def test_an_assumed_beginning_may_be_wrong(text: str, answer: str, thinking: str) -> None:
    found = read(list(text), "</think>")
    assert (found.text(), "".join(found.inline_thinking)) == (answer, thinking)
