"""A log on its way to pi: lines that are too long are cut, wherever the stream is split."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.on_pod import logs
from pi.on_pod.logs import CUT, LINE_CHARACTERS, Shortener

LIMIT = 6

lines = st.text(st.sampled_from("ab\r\n"), max_size=20)


@given(st.lists(lines, max_size=6))
def test_lines_are_cut_however_the_stream_is_split(pieces: list[str]) -> None:
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(logs, "LINE_CHARACTERS", LIMIT)
        shortener = Shortener()
        shown = "".join(map(shortener.feed, pieces))
    parts = re.split("([\r\n])", "".join(pieces))
    assert shown == "".join(part if len(part) <= LIMIT else part[:LIMIT] + CUT for part in parts)


def test_a_log_without_long_lines_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splitting takes fifty times as long."""
    monkeypatch.setattr(re, "split", None)
    whole = ("x" * LINE_CHARACTERS + "\n" + "short\n" * 9000 + "50%\r" * 9000) * 2
    shortener = Shortener()
    assert "".join(shortener.feed(whole[start : start + 5000]) for start in range(0, len(whole), 5000)) == whole
