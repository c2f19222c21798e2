"""What the processes of a deployment do: their states, and the stacks of those that run Python.

`py-spy` in the venv reads stacks from outside. Where the container forbids ptrace, each process writes its own on a
signal, which `sitecustomize.py` beside the launcher registered.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from typing import List

from pi.on_pod import process, reading, records
from pi.on_pod.events import ProcessDetail
from pi.on_pod.record_shapes import Record

SIGNAL = signal.SIGRTMIN + 7

MOST_PROCESSES = 16

STACK_BYTES = 12 * 1024

PATIENCE_S = 1.5
"""For a process to write its stacks; one that is busy in native code writes them later, or never."""

QUIET_S = 0.1
"""A process that writes nothing for this time has written all."""

PY_SPY_S = 8


def of(record: Record) -> List[ProcessDetail]:
    """Return what each process of a deployment does now, without its launcher."""
    living = [pid for pid in records.living(record) if pid != record.get("session")]
    return [_described(record, pid) for pid in sorted(living)[:MOST_PROCESSES]]


def without_stack(pid: int) -> ProcessDetail:
    """Return the name and the state of a process."""
    fields = process.stat(pid)
    program = process.described(pid).partition(" (")[2][:-1]
    return {"pid": pid, "program": program, "state": fields[0] if fields else "X", "stack": ""}


def _described(record: Record, pid: int) -> ProcessDetail:
    detail = without_stack(pid)
    if detail["state"] not in "TtZX":
        detail["stack"] = _by_py_spy(record, pid) or _by_signal(record, pid)
    return detail


def _by_py_spy(record: Record, pid: int) -> str:
    program = os.path.expanduser("~/%s/bin/py-spy" % record.get("venv", "venv"))
    if not os.path.exists(program):
        return ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, "dump", "--pid", str(pid)], stdin=subprocess.DEVNULL, capture_output=True, timeout=PY_SPY_S
        )
        if done.returncode == 0:
            return done.stdout[:STACK_BYTES].decode("utf-8", "replace")
    return ""


def _by_signal(record: Record, pid: int) -> str:
    """Return what a process writes on the signal; empty if it does not handle it, because it would die of it."""
    path = os.path.join(records.folder(record["name"]), "stacks")
    if not _handles(pid) or not os.path.exists(path):
        return ""
    before = os.path.getsize(path)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, SIGNAL)
    size, deadline, changed = before, time.monotonic() + PATIENCE_S, time.monotonic()
    while time.monotonic() < deadline and (size == before or time.monotonic() - changed < QUIET_S):
        time.sleep(0.02)
        now = os.path.getsize(path)
        if now != size:
            size, changed = now, time.monotonic()
    try:
        with os.fdopen(reading.opened(path), "rb") as file:
            file.seek(before)
            return file.read(STACK_BYTES).decode("utf-8", "replace")
    except reading.ReadError:
        return ""


def _handles(pid: int) -> bool:
    """Return whether a process has a handler for the signal (proc(5): SigCgt)."""
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", reading.text("/proc/%d/status" % pid), re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (SIGNAL - 1) & 1)
