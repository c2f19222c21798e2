"""Formats of durations and ages."""

from __future__ import annotations

import pytest

from pi import screen


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (0, "0.0 s"),
        (99.94, "99.9 s"),
        (100, "1 min 40 s"),
        (119.7, "2 min 0 s"),
        (170, "2 min 50 s"),
        (3600, "60 min 0 s"),
    ],
)
def test_a_duration_is_in_seconds_or_in_minutes(duration: float, words: str) -> None:
    assert screen.seconds(duration) == words


@pytest.mark.parametrize(
    ("duration", "words"),
    [(-3, "0 s ago"), (59, "59 s ago"), (180, "3 min ago"), (7200, "2 h ago"), (259200, "3 days ago")],
)
def test_an_age_is_in_one_unit_and_never_negative(duration: float, words: str) -> None:
    assert screen.ago(duration) == words
