"""Formats of durations and ages, and tables that fit a terminal."""

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


HEADERS = ("NAME", "MODEL", "STATE", "URL")
ROWS = [("qwen", "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", "running", "http://203.0.113.7:8001/v1")]


@pytest.mark.parametrize(
    ("columns", "moved", "whole"), [(200, False, True), (79, False, False), (58, True, True), (50, True, False)]
)
def test_a_table_fits_the_terminal(columns: int, moved: bool, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "width", lambda: columns)
    lines = screen.table_text(ROWS, HEADERS, shrink="MODEL", below="URL").splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[2:] == (["  qwen: http://203.0.113.7:8001/v1"] if moved else [])
    assert "http://203.0.113.7:8001/v1" in lines[-1]
    assert ("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8" in lines[1]) == whole


def test_what_moves_below_a_table_follows_all_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "width", lambda: 50)
    rows = [("dc1", *ROWS[0])]
    lines = screen.table_text(rows, ("POD", *HEADERS), shrink="MODEL", below="URL", labels=2).splitlines()
    assert lines[2:] == ["  dc1/qwen: http://203.0.113.7:8001/v1"]


def test_columns_that_are_too_wide_move_the_last_one_below(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("", "POD", "GPUS", "SSH"), ("*", "dc1", "2x H100", "ssh root@203.0.113.7 -p 22022")]
    monkeypatch.setattr(screen, "width", lambda: 40)
    screen.columns(rows, label=1)
    assert capsys.readouterr().out.splitlines() == [
        "   POD  GPUS",
        "*  dc1  2x H100",
        "  dc1: ssh root@203.0.113.7 -p 22022",
    ]


def test_a_table_in_a_pipe_is_whole() -> None:
    [_, line] = screen.table_text(ROWS, HEADERS, shrink="MODEL", below="URL").splitlines()
    assert line.split() == list(ROWS[0])


def test_states_have_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, colours = [("running", "running")], {"STATE": {"running": "32"}}
    assert "\x1b" not in screen.table_text(rows, ("NAME", "STATE"), colours=colours)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    [_, line] = screen.table_text(rows, ("NAME", "STATE"), colours=colours).splitlines()
    assert line.split() == ["running", "\x1b[32mrunning\x1b[0m"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in screen.table_text(rows, ("NAME", "STATE"), colours=colours)
