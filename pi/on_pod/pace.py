"""The pace of pi's own time-outs, on both ends: tests shorten them with PI_TEST_PACE, such as 0.2.

Messages keep the real seconds. A pod gets its pace from the environment of its own sessions.
"""

from __future__ import annotations

import os


def paced(seconds: float) -> float:
    """Return how long to wait for what takes this many seconds at the usual pace."""
    return seconds * float(os.environ.get("PI_TEST_PACE") or 1)
