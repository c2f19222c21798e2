"""`inv test --quick`: which SSH tests belong to a file. `inv test`: what failed runs once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from chores import suite

TESTS = {
    "pi/on_pod/start.py": ["test_start.py", "test_start_failures.py"],
    "pi/on_pod/status.py": ["test_list.py"],
    "pi/prompt/chat.py": ["test_prompt.py"],
    "pi/setup/pod_setup.sh": ["test_setup.py"],
    "pi/errors.py": [],
    "tests/ssh/test_logs.py": ["test_logs.py"],
    "tests/ssh/conftest.py": [],
    "README.md": [],
}


@pytest.mark.parametrize(("name", "tests"), TESTS.items(), ids=TESTS)
def test_a_file_has_the_tests_named_after_it(name: str, tests: list[str]) -> None:
    assert sorted(path.name for path in suite.ssh_tests(name)) == tests


def test_there_are_about_40_core_cases() -> None:
    assert 30 <= len(suite.core()) <= 50


def test_a_change_of_a_verb_runs_its_tests_only() -> None:
    assert suite.quick(["README.md", "pi/on_pod/stop.py"]) == ["tests/ssh/test_stop.py"]


def test_a_change_of_a_shared_room_also_runs_the_core(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = suite.quick(["pi/errors.py", "pi/on_pod/stop.py"])
    assert chosen[0] == "tests/ssh/test_stop.py"
    assert len(chosen) > 30 and not any(case.startswith("tests/ssh/test_stop.py::") for case in chosen)
    assert "pi/errors.py" in capsys.readouterr().out


FAILS_ONCE = """
from pathlib import Path

def test_fails_once():
    again = Path("again")
    again.touch() if (first := not again.exists()) else None
    assert not first

def test_passes():
    with open("passes", "a") as runs:
        runs.write("x")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tests for suite.run."""
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    (tmp_path / "test_one.py").write_text(FAILS_ONCE)
    return tmp_path


def test_only_the_failed_test_runs_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert suite.run([["test_one.py"]]) == 0
    assert "run once more, one at a time:\n  test_one.py::test_fails_once\n" in capfd.readouterr().out
    assert (folder / "passes").read_text() == "x"


def test_a_test_that_fails_twice_or_may_not_repeat_fails_the_run(folder: Path) -> None:
    assert suite.run([["test_one.py"]], repeat=False) == 1
    (folder / "test_one.py").write_text("def test_fails(): assert False")
    assert suite.run([["test_one.py"]]) == 1


def test_each_kind_of_tests_has_its_own_run() -> None:
    *ssh, unit = (words[-1] for words in suite.runs(["tests/ssh/test_stop.py"], ["tests/unit"]))
    assert unit == "tests/unit" and ssh in ([], ["tests/ssh/test_stop.py"])
    assert [words[-1] for words in suite.runs([], ["tests/unit"])] == ["tests/unit"]


def test_commands_run_together_and_the_first_prints_first(capfd: pytest.CaptureFixture[str]) -> None:
    assert suite.together([["sh", "-c", "sleep 0.2; echo tests"], ["sh", "-c", "echo types; exit 3"]]) == [0, 3]
    assert capfd.readouterr().out == "tests\ntypes\n"
