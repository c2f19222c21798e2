"""The log of changes: safe lines, private files, rotation, and concurrent writers."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi import redaction
from pi.errors import BusyError, Interrupted
from pi.on_pod.audit import ROTATED_BYTES, _field, append, last
from pi.pods import changes


def lines(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "pi"))
    return tmp_path / "pi" / "audit.log"


def test_a_change_is_one_line_in_a_private_file(log: Path) -> None:
    changes.note("active", "box")
    [[when, who, *rest]] = lines(log)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", when)
    assert re.fullmatch(r"[^@\s]+@\S+", who)
    assert rest == ["active", "box", "ok"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_the_log_contains_how_a_change_ended(log: Path) -> None:
    with changes.change("start", "a"):
        pass
    for error in (BusyError("x", "no room"), Interrupted("x", "stopped"), KeyboardInterrupt(), TypeError("x")):
        with pytest.raises(type(error)), changes.change("start", "a"):
            raise error
    assert [line[-1] for line in lines(log)] == [
        "ok",
        "failed: x (exit code 5)",
        "interrupted",
        "interrupted",
        "failed: TypeError",
    ]


def test_a_failed_write_of_the_log_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "file" / "pi"))
    changes.note("active", "box")


def test_the_log_contains_no_secret(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_added", set())
    monkeypatch.setenv("PI_API_KEY", "sk-0123456789abcdef")
    changes.note("start", "box/sk-0123456789abcdef")
    assert lines(log)[0][3] == "box/***"


HOSTILE = ["a\nb", "a\tb\tc", "\x1b[2Jx", "\u202egpj", "a\x00b", "\ud800", "", "  ", "x" * 5000, "a\r\nb\u2028c\x85d"]


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:12]) for text in HOSTILE])
def test_a_hostile_string_stays_one_field_of_one_line(text: str, log: Path) -> None:
    append(str(log), text, text, text, text)
    [fields] = lines(log)
    assert len(fields) == 5 and len(log.read_bytes()) < 4096
    assert changes.row(log.read_text().rstrip("\n")) == fields


@given(st.text(max_size=300))
def test_any_text_becomes_one_printable_field(text: str) -> None:
    field = _field(text)
    assert field and field.isprintable() and "\t" not in field and len(field) <= 200
    field.encode()


def test_a_line_of_another_shape_is_shown_unchanged() -> None:
    assert changes.row("someone wrote this") == ["", "", "", "", "someone wrote this"]


def test_last_lines_come_from_both_files_after_a_rotation(log: Path) -> None:
    log.parent.mkdir()
    log.write_text("y" * 60 + "\n" + ("x" * 99 + "\n") * (ROTATED_BYTES // 100))
    append(str(log), "ann@host", "start", "first", "ok")
    append(str(log), "ann@host", "start", "second", "ok")
    old = log.with_name("audit.log.1")
    assert [fields[3] for fields in lines(log)] == ["first", "second"]
    assert old.stat().st_size <= ROTATED_BYTES
    shown = last(str(log), 4)
    assert shown[:2] == ["x" * 99] * 2 and shown[3].split("\t")[3] == "second"
    assert last(str(log), 1) == shown[3:]
    assert last(str(log.with_name("none")), 5) == []


def test_a_link_instead_of_the_log_is_not_followed(log: Path) -> None:
    log.parent.mkdir()
    log.symlink_to(log.with_name("precious"))
    with pytest.raises(OSError):
        append(str(log), "a", "b", "c", "d")
    assert not log.exists()


WRITER = """
import sys
from pi.on_pod import audit
audit.ROTATED_BYTES = int(sys.argv[2])
for number in range(200):
    audit.append(sys.argv[1], sys.argv[3], "start", str(number), "ok")
"""


def test_concurrent_writers_lose_no_line_in_a_rotation(log: Path) -> None:
    whole = 4 * 200 * len("2026-11-23T10:00:00Z\tw0\tstart\t100\tok\n")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, log, str(whole * 2 // 3), f"w{number}"]) for number in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    old = log.with_name("audit.log.1")
    found = lines(old) + lines(log)
    assert old.exists() and log.stat().st_size
    assert {(fields[1], fields[3]) for fields in found} == {(f"w{w}", str(n)) for w in range(4) for n in range(200)}
    assert len(found) == 800
