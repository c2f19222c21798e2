"""`inv test --quick`: which SSH tests belong to a file."""

from __future__ import annotations

import pytest
from invoke import Exit

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


def test_a_change_of_a_verb_runs_its_tests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "changed", lambda: ["README.md", "pi/on_pod/stop.py"])
    assert suite.quick() == ["tests/ssh/test_stop.py"]


def test_a_change_of_a_shared_room_also_runs_the_core(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "changed", lambda: ["pi/errors.py", "pi/on_pod/stop.py"])
    chosen = suite.quick()
    assert chosen[0] == "tests/ssh/test_stop.py"
    assert len(chosen) > 30 and not any(case.startswith("tests/ssh/test_stop.py::") for case in chosen)
    assert "pi/errors.py" in capsys.readouterr().out


def test_each_kind_of_tests_has_its_own_run() -> None:
    *ssh, unit = (words[-1] for words in suite.runs(["tests/ssh/test_stop.py"]))
    assert unit == "tests/unit" and ssh in ([], ["tests/ssh/test_stop.py"])
    assert [words[-1] for words in suite.runs([])] == ["tests/unit"]


def test_a_command_beside_the_tests_prints_after_them_and_fails_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit), suite.beside(["sh", "-c", "echo types; exit 3"]):
        print("tests", flush=True)
    assert capfd.readouterr().out == "tests\ntypes\n"
