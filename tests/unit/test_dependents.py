"""`inv test --quick`: which unit tests depend on a changed file."""

from __future__ import annotations

from pathlib import Path

import pytest

from chores import dependents

READERS = ("tests/unit/pods/test_state.py", "tests/unit/steps/test_spending.py", "tests/unit/cli/test_shells.py")


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("pi/pods/state.py", READERS),
        ("pi/steps/spending.py", READERS[1:]),
        ("pi/fabric_tasks/pods.py", READERS[2:]),
        ("pi/on_pod/lock.py", ("tests/unit/on_pod/test_lock.py",)),
        ("tests/unit/pods/test_state.py", READERS[:1]),
        ("tests/ssh/test_list.py", ()),
        ("README.md", ()),
    ],
)
def test_tests_that_import_a_changed_module_run(changed: str, found: tuple[str, ...]) -> None:
    """A verb is imported by its name, so all tests of the command line depend on each."""
    tests = dependents.unit_tests([changed])
    assert {test for test in tests if test in (*READERS, "tests/unit/on_pod/test_lock.py")} == set(found)
    assert set(dependents.ALWAYS) <= set(tests)


def test_a_module_that_is_imported_for_its_types_only_does_not_count() -> None:
    assert "pi.calls.status" not in dependents.imports(Path("pi/steps/states.py"))


@pytest.mark.parametrize(
    "name", ["models.toml", "setup.cfg", "pi/setup/templates/pi_guard.py", "tests/golden/messages.txt"]
)
def test_a_file_whose_readers_are_unknown_runs_all(name: str) -> None:
    assert dependents.unit_tests([name]) == ["tests/unit"]


def test_the_tests_that_always_run_exist() -> None:
    assert all((dependents.ROOT / name).exists() for name in dependents.ALWAYS)
