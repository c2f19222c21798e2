"""The ports of this machine, which all pods of the tests share."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.rig.alone import is_alone

HELD: list[IO[bytes]] = []


@contextmanager
def ports_to_ourselves() -> Iterator[None]:
    """Make other test runs on this machine wait, because a real pod shares its ports with nobody.

    In a network namespace, which has its own ports, this does nothing.
    """
    if HELD or is_alone():
        yield
        return
    path = Path(tempfile.gettempdir()) / "pi-tests.lock"
    if not path.exists():
        path.touch(mode=0o644)
    with path.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        HELD.append(lock)
        try:
            yield
        finally:
            HELD.clear()
