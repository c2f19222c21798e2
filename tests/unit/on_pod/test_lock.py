"""The lock that a pod's calls take while they choose a port and GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pi.on_pod import lock, records
from pi.on_pod.wire import PodError
from tests.unit.on_pod.conftest import Wire


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "HOME", str(tmp_path))
    return tmp_path


HOLDING = """
import fcntl, os, sys, time
with open(sys.argv[1], "a+") as lock:
    for turn in range(int(sys.argv[2])):
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write("pid %d on the pod, for turn %d," % (os.getpid(), turn) if len(sys.argv) == 4 else sys.argv[4])
        lock.flush()
        print("held", flush=True)
        time.sleep(float(sys.argv[3]))
"""


def holder(home: Path, turns: int, seconds: float, *noted: str) -> Any:
    """Another process that has the lock, so often and each time so long, as if it passed from one to the next."""
    words = [sys.executable, "-c", HOLDING, str(home / "lock"), str(turns), str(seconds), *noted]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def test_one_holder_is_waited_for_so_long_and_then_named(home: Path) -> None:
    with holder(home, 1, 60) as other:
        with pytest.raises(PodError, match="for turn 0, has held this pod's lock for 0 s"), lock.locked(Wire(), 0.4):
            pytest.fail("it was held")
        other.kill()
    with lock.locked(Wire(), 5):
        assert (home / "lock").read_text().endswith("for ann@laptop,")


@pytest.mark.parametrize("noted", ["", "pid 1 on the pod, for bob@laptop,"], ids=["nothing", "who had it before"])
def test_a_holder_that_writes_no_name_is_named_by_the_kernel(home: Path, noted: str) -> None:
    with holder(home, 1, 60, noted) as other:
        named = rf"pid {other.pid} \(python3?[\d.]*\) on the pod has held this pod's lock"
        with pytest.raises(PodError, match=named), lock.locked(Wire(), 0.2):
            pytest.fail("it was held")
        other.kill()


def test_many_holders_are_waited_for_as_long_as_the_lock_passes_on(home: Path) -> None:
    with holder(home, 6, 0.5), lock.locked(Wire(), 2):
        assert "for ann@laptop," in (home / "lock").read_text()


STUCK = """
import sys, time
from pi.on_pod import lock, records
from tests.unit.on_pod.conftest import Wire

records.HOME = sys.argv[1]
call = Wire()
with lock.locked(call):
    print("held", flush=True)
    call.lost.set()
    time.sleep(300)
"""


def test_a_holder_whose_pi_is_gone_frees_the_lock_though_its_storage_never_answers(home: Path) -> None:
    words = [sys.executable, "-c", STUCK, str(home)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PI_TEST_PACE": "0.05"}) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        began = time.monotonic()
        with lock.locked(Wire(), 60):
            assert time.monotonic() - began < 10 and other.wait(5) == 1


def test_a_lock_that_is_not_a_file_is_reported(home: Path) -> None:
    os.mkfifo(home / "lock")
    with pytest.raises(PodError, match=r"cannot use ~/\.pi/lock on the pod: it is not a file"), lock.locked(Wire()):
        pytest.fail("it was held")
