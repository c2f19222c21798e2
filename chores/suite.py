"""How `inv test` runs the tests: several at once, each worker with a network of its own."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.rig import alone

WORKERS_PER_CORE = 3
"""Most tests wait for processes: one uses a third of a core."""

MOST_WORKERS = 24


def options() -> list[str]:
    """pytest options for this machine. Without network namespaces the tests share ports, so they run one by one."""
    if alone.is_alone() or alone.is_possible():
        os.environ.setdefault("PI_TEST_PATIENCE", "3")
        return alone.workers(min(WORKERS_PER_CORE * (os.cpu_count() or 1), MOST_WORKERS))
    print("tests run one at a time: no network namespace can be made here", flush=True)
    return []


@contextmanager
def clocked() -> Iterator[None]:
    """Print the wall time and the CPU time of what runs meanwhile, failed or not."""
    began, used = time.monotonic(), _cpu_s()
    try:
        yield
    finally:
        print(f"took {time.monotonic() - began:.0f} s, {_cpu_s() - used:.0f} CPU seconds", flush=True)


def _cpu_s() -> float:
    """CPU seconds of ended child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
