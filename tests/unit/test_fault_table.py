"""The fault table has 60 rows, and each is a test of tests/ssh/test_faults_*.py by its number, or is listed here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SSH = Path(__file__).parents[1] / "ssh"

ELSEWHERE: dict[int, str] = {}
"""Rows that no test injects, and why. What of an injected row cannot be had on one machine is told in its file."""


def injected() -> Iterator[int]:
    """Row numbers in the names of the tests: `test_row_07_...`, `test_rows_34_and_35_...`."""
    for path in SSH.glob("test_faults_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (named := re.match(r"test_rows?_(\d+(?:_and_\d+)*)_", node.name)):
                yield from map(int, named[1].split("_and_"))


def test_every_row_of_the_fault_table_is_injected_or_listed_with_the_reason() -> None:
    rows = set(injected())
    assert not rows & set(ELSEWHERE), "injected, so not to be listed"
    assert rows | set(ELSEWHERE) == set(range(1, 61))
