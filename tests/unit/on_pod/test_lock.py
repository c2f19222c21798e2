"""The lock that a pod's calls take while they choose a port and GPUs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pi.on_pod import records, wire
from pi.on_pod.wire import PodError


class Wire(wire.Wire):
    """Of a call, what the lock needs: who is calling, and whether that was cancelled."""

    def __init__(self) -> None:
        self.who = "ann@laptop"

    def check_cancelled(self) -> None:
        """It never was."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "HOME", str(tmp_path))
    return tmp_path


HOLDING = """
import fcntl, sys, time
with open(sys.argv[1], "a+") as lock:
    for turn in range(int(sys.argv[2])):
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write("turn %d" % turn)
        lock.flush()
        print("held", flush=True)
        time.sleep(float(sys.argv[3]))
"""


def holder(home: Path, turns: int, seconds: float) -> Any:
    """Another process that has the lock, so often and each time so long, as if it passed from one to the next."""
    words = [sys.executable, "-c", HOLDING, str(home / "lock"), str(turns), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def test_one_holder_is_waited_for_so_long_and_then_named(home: Path) -> None:
    with holder(home, 1, 60) as other:
        with pytest.raises(PodError, match="turn 0 has held this pod's lock for 0 s"), records.locked(Wire(), 0.4):
            pytest.fail("it was held")
        other.kill()
    with records.locked(Wire(), 5):
        assert (home / "lock").read_text().endswith("for ann@laptop,")


def test_many_holders_are_waited_for_as_long_as_the_lock_passes_on(home: Path) -> None:
    with holder(home, 6, 0.5), records.locked(Wire(), 2):
        assert "for ann@laptop," in (home / "lock").read_text()
