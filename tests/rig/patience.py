"""The time limits of tests. PI_TEST_PATIENCE=3 triples them, for a busy machine."""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("PI_TEST_PATIENCE") or 1)


def patient(seconds: float) -> float:
    """Return the limit for an operation that takes at most this many seconds on an idle machine."""
    return seconds * FACTOR
