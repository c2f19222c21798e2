"""The case files of tests/cases, and the errors for invalid ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig.cases import CASES, load, names, strays


@pytest.mark.parametrize("folder", sorted(CASES.iterdir()), ids=lambda folder: folder.name)
def test_every_file_of_a_folder_belongs_to_a_case(folder: Path) -> None:
    assert (folder / "README.md").exists()
    assert names(folder)
    assert strays(folder) == []


@dataclass(frozen=True)
class Example:
    about: str
    log: str
    hint: str | None = None


def case(folder: Path, text: str) -> Path:
    path = folder / "full.toml"
    path.write_text(text)
    return path


def test_a_text_is_in_the_case_or_in_its_own_file(tmp_path: Path) -> None:
    inline = load(Example, case(tmp_path, "about = 'a full disk'\nlog = '''\nNo space\r\n'''\n"))
    assert inline == Example("a full disk", "No space\n")
    (tmp_path / "full.log").write_bytes(b"No space\r\n")
    (tmp_path / "fuller.log").write_text("of another case")
    assert load(Example, case(tmp_path, "about = 'a full disk'")) == Example("a full disk", "No space\r\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("about = 'x'\nlog = ''\nhnit = 'y'", "full.toml: unknown hnit; use about, log, hint"),
        ("log = ''", "full.toml: missing about"),
        ("about = 'x'", "full.toml: missing log"),
    ],
    ids=["unknown key", "missing key", "missing text"],
)
def test_a_case_with_wrong_keys_is_rejected(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"{problem}$"):
        load(Example, case(tmp_path, text))


def test_a_text_in_both_files_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "full.log").write_text("No space")
    with pytest.raises(ValueError, match=r"full\.toml: log is also in full\.log$"):
        load(Example, case(tmp_path, "about = 'x'\nlog = 'y'"))


def test_a_file_of_an_unknown_kind_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "full.txt").write_text("No space")
    with pytest.raises(ValueError, match="unknown txt"):
        load(Example, case(tmp_path, "about = 'x'\nlog = 'y'"))


def test_a_text_without_its_case_is_a_stray(tmp_path: Path) -> None:
    case(tmp_path, "about = 'x'")
    for name in ("README.md", "full.log", "disk.log"):
        (tmp_path / name).touch()
    assert strays(tmp_path) == ["disk.log"]
