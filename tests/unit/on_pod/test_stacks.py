"""Stacks of real processes, and a log that stands still."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import cast

import pytest

from pi.on_pod import records, stack, stacks
from pi.on_pod.record_shapes import Record
from pi.on_pod.watch import AGAIN_S, STILL_S, Watch

PROGRAM = """
import sys, time
def waits_here():
    print("ready", flush=True)
    time.sleep(60)
waits_here()
"""


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A Python process of the deployment `q`, with the module that a start gives it."""
    folder = tmp_path / "q"
    (tmp_path / "venv").mkdir()
    folder.mkdir()
    (folder / "sitecustomize.py").write_text((files("pi.setup") / "templates" / "sitecustomize.py").read_text())
    (tmp_path / "venv" / "sitecustomize.py").write_text("print('the next one', flush=True)")
    monkeypatch.setattr(records, "RUN", str(tmp_path))
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": f"{folder}:{tmp_path / 'venv'}", "PI_STACKS": str(folder / "stacks")},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout
    assert [child.stdout.readline(), child.stdout.readline()] == ["the next one\n", "ready\n"]
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def record(child: subprocess.Popen[str]) -> Record:
    return cast(Record, {"name": "q", "instance": "x", "session": 0, "venv": "none"})


def described(child: subprocess.Popen[str]) -> dict[str, object]:
    return dict(stacks._described(record(child), child.pid))


def test_a_process_writes_its_stack_on_the_signal_and_lives_on(
    process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "PATIENCE_S", 30)
    for _ in range(2):
        assert "in waits_here" in str(described(process)["stack"])
    assert process.poll() is None


def test_a_stopped_process_is_told_by_its_state(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while described(process)["state"] != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert described(process) == {
        "pid": process.pid,
        "program": described(process)["program"],
        "state": "T",
        "stack": "",
    }


def test_a_process_without_the_handler_gets_no_signal(process: subprocess.Popen[str]) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        assert stack.by_signal(other.pid, os.path.join(records.folder("q"), "stacks")) == ""
        assert other.poll() is None
        other.kill()


def test_a_log_stands_still_if_nothing_or_only_waiting_is_written() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    waits = "INFO [shm_broadcast.py:681] No available shared memory broadcast block found in 60 seconds.\n"
    due = []
    for second in range(0, int(2 * STILL_S + AGAIN_S) + 1):
        now[0] = float(second)
        watch.feed("loading\n" if second == 10 else waits if second % 60 == 0 else "")
        if watch.is_due():
            due.append(second)
    assert due == [10 + STILL_S, 10 + STILL_S + AGAIN_S]
    assert watch.still_s() == now[0] - 10
