"""Lines of a log since a time, and those with a text."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pi.on_pod.log_filter import Matching, since

NOW = time.mktime((2026, 1, 1, 0, 5, 0, 0, 0, -1))


def line(stamp: str, text: str) -> str:
    return f"(EngineCore pid=95) INFO {stamp} [core.py:1510] {text}\n"


LOG = line("12-31 23:40:00", "old") + "a traceback\n" + line("12-31 23:57:00", "new") + "its rest\n"


@pytest.mark.parametrize(
    ("seconds", "first"),
    [(3600, "(EngineCore pid=95) INFO 12-31 23:40"), (600, "(EngineCore pid=95) INFO 12-31 23:57"), (60, "")],
)
def test_lines_begin_at_the_first_that_is_new_enough_across_a_new_year(
    tmp_path: Path, seconds: int, first: str
) -> None:
    path = tmp_path / "log"
    path.write_text(LOG)
    with path.open("rb", buffering=0) as file:
        place = since(file, seconds, 0, NOW)
        file.seek(place)
        assert file.read().decode().startswith(first)
        assert (place == len(LOG)) is (first == "")


def test_a_stamp_that_is_no_time_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line("99-99 99:99:99", "x") + line("12-31 23:57:00", "y"))
    with path.open("rb", buffering=0) as file:
        file.seek(since(file, 600, 0, NOW))
        assert file.read().endswith(b"y\n")


def test_matching_lines_pass_whole_wherever_the_stream_is_cut() -> None:
    text = "".join(f"line {n} {'Error' if n % 3 == 0 else 'fine'}\n" for n in range(20))
    for size in (1, 7, 1000):
        matching = Matching("eRRor", 3)
        assert "".join(matching.feed(text[at : at + size]) for at in range(0, len(text), size)) == ""
        assert matching.caught_up() == "line 12 Error\nline 15 Error\nline 18 Error\n"
        assert matching.feed("an error\r\nnot\nthe last er") == "an error\n"
        assert matching.feed("ror") + matching.rest() == "the last error"
