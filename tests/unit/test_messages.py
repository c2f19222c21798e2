"""The texts of all errors are in one golden file; other tests assert the id of an error."""

from __future__ import annotations

import re

from chores.messages import GOLDEN, listing


def test_the_golden_file_equals_the_errors_of_the_source() -> None:
    assert GOLDEN.read_text("utf-8") == listing(), "if the new texts are right: inv messages"


def test_ids_are_short_and_in_kebab_case() -> None:
    ids = re.findall(r"^\[(.*)\]$", listing(), re.MULTILINE)
    assert len(ids) > 150
    assert [id for id in ids if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+){0,5}", id)] == []
