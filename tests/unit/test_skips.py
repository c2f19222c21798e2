"""All reasons to skip a test are in `tests/rig/skips.py`."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
SKIPS = re.compile(r"pytest\.(skip|mark\.skip|importorskip|mark\.xfail|xfail)\b")


def test_a_skip_names_a_reason_from_the_list() -> None:
    for path in TESTS.rglob("*.py"):
        assert path.match("rig/skips.py") or path == Path(__file__) or not SKIPS.search(path.read_text()), path
