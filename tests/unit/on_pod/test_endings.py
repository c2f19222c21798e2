"""What the kernel says of a server that ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest

from pi.on_pod import endings, logs, records
from pi.on_pod.record_shapes import Record

DMESG = """\
[  100.000000] Out of memory: Killed process 1 (python3) total-vm:1kB
[  900.500000] Memory cgroup out of memory: Killed process 77 (VLLM::EngineCor) total-vm:98765432kB
[  900.600000] Out of memory: Killed process 78 (postgres) total-vm:1kB
[  901.000000] usb 1-1: new device
[  902.000000] NVRM: Xid (PCI:0000:c1:00): 79, pid=77, GPU has fallen off the bus.
"""


def record(**keys: Any) -> Record:
    return cast(Record, {"name": "q", "created": 1.0, "launched": 800.0, **keys})


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without /dev/kmsg, whose `dmesg` prints the file `dmesg.txt`."""
    program = tmp_path / "dmesg"
    program.write_text(f"#!/bin/sh\nexec cat {tmp_path}/dmesg.txt\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(endings, "KMSG", str(tmp_path / "none"))
    monkeypatch.setattr(endings, "COUNTERS", (str(tmp_path / "none"), str(tmp_path / "memory.events")))
    return tmp_path


def test_the_kernels_log_counts_from_the_launch_and_for_vllm_only(pod: Path) -> None:
    (pod / "dmesg.txt").write_text(DMESG)
    (pod / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    told = endings.kernel(record(kills=0))
    assert [line.split()[0] for line in told] == ["Memory", "NVRM:"]


def test_the_counter_of_the_container_proves_a_kill_if_the_log_is_out_of_reach(pod: Path) -> None:
    (pod / "dmesg").unlink()
    (pod / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert endings.kernel(record(kills=1)) == ["oom_kill 1: the kernel killed a process of this container for memory"]
    assert endings.kernel(record(kills=2)) == []
    assert endings.kernel(record()) == []


def test_the_real_kernel_log_of_this_machine_can_be_asked() -> None:
    assert all(isinstance(line, str) for line in endings.kernel(record(launched=0.0)))


@pytest.mark.parametrize("lines", [1, endings.LOG_BYTES // 4 - 1, endings.LOG_BYTES // 4 + 1, 400_000])
def test_the_ending_counts_the_lines_before_it(pod: Path, monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    monkeypatch.setattr(records, "LOGS", str(pod))
    (pod / "q.log").write_text("args\n" + "x é\n" * (lines - 1) + "last")
    ending = endings.of(record())
    endings.keep(ending)
    for each in (ending, endings.kept("q")):
        before = each["lines_before"]
        assert before is not None and before + len(each["log"].splitlines()) == lines + 1
        assert len(each["log"].encode()) <= endings.LOG_BYTES
        assert each.get("head", each["log"]).startswith("args\n")


def test_the_lines_of_an_enormous_log_stay_uncounted(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LOGS", str(pod))
    with (pod / "q.log").open("w") as log:
        log.write("args\nhalf")
        log.truncate(logs.COUNTED_BYTES)
        log.seek(0, os.SEEK_END)
        log.write("\nlast")
    ending = endings.of(record())
    assert (ending["log"], ending["lines_before"]) == ("last", None)
    assert ending["head"] == "args"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff"])
def test_a_damaged_ending_leaves_the_log(pod: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(records, "LOGS", str(pod))
    (pod / "q.log").write_text("the log\n")
    (pod / "q.end").write_bytes(content)
    kept = endings.kept("q")
    assert (kept["log"], kept["exit"], kept["venv"], kept["kernel"]) == ("the log\n", None, "venv", [])
