"""Every row of the fault table (60) has a test in tests/ssh/test_faults_*.py, named by its number, or is listed here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SSH = Path(__file__).parents[1] / "ssh"

ELSEWHERE: dict[int, str] = {}
"""Rows without a test, and the reason. Each test file says which parts of its rows one machine cannot reproduce."""


def injected() -> Iterator[int]:
    """Yield the row numbers in test names such as `test_row_07_...` or `test_rows_34_and_35_...`."""
    for path in SSH.glob("test_faults_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (named := re.match(r"test_rows?_(\d+(?:_and_\d+)*)_", node.name)):
                yield from map(int, named[1].split("_and_"))


def test_every_row_of_the_fault_table_has_a_test_or_a_reason() -> None:
    rows = set(injected())
    assert not rows & set(ELSEWHERE), "a listed row has a test"
    assert rows | set(ELSEWHERE) == set(range(1, 61))
