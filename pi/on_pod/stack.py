"""What one process does: its state, and the stacks of its threads if it runs Python.

`py-spy` reads stacks from outside. Where the container forbids ptrace, each process writes its own on a signal, which
`sitecustomize.py` beside the launcher registered. If neither works, the kernel tells where the threads wait.

It imports no other module of pi: a start also writes it beside the launcher, as `pi_stack.py` for `pi_watch.py`.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import signal
import subprocess
import time
from typing import NamedTuple

SIGNAL = signal.SIGRTMIN + 7

STACK_BYTES = 12 * 1024

PATIENCE_S = 1.5
"""For a process to write its stacks; one that is busy in native code writes them later, or never."""

QUIET_S = 0.1
"""A process that writes nothing for this time has written all."""

PY_SPY_S = 8


class Doing(NamedTuple):
    """A process: the name of its program, its state as in /proc/PID/stat, and its stacks; empty if unknown."""

    pid: int
    program: str
    state: str
    stack: str


def of(pid: int, py_spy: str, file: str) -> Doing:
    """Return what a process does. `file` is where it writes its stacks on the signal."""
    state = state_of(pid)
    stack = "" if state in "TtZX" else _by_py_spy(pid, py_spy) or by_signal(pid, file)
    return Doing(pid, program_of(pid), state, stack)


def program_of(pid: int) -> str:
    return _read(pid, "comm").strip() or "gone"


def state_of(pid: int) -> str:
    """Return the state of a process, X if it is gone (proc(5): /proc/PID/stat)."""
    return _read(pid, "stat").rpartition(")")[2].strip()[:1] or "X"


def waits(pid: int) -> str:
    """Return in which function of the kernel the threads of a process wait, such as "40 futex_do_wait, 1 running"."""
    counts: collections.Counter[str] = collections.Counter()
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/%d/task" % pid):
            place = _read(pid, "task/%s/wchan" % thread).strip()
            counts["running" if place in ("", "0") else place] += 1
    return ", ".join("%d %s" % (count, place) for place, count in counts.most_common(8))


def is_traced(pid: int) -> bool:
    """Return whether a debugger has attached itself to a process (proc(5): TracerPid)."""
    return bool(re.search(r"^TracerPid:\s*[1-9]", _read(pid, "status"), re.MULTILINE))


def _by_py_spy(pid: int, program: str) -> str:
    if not os.path.exists(program):
        return ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, "dump", "--pid", str(pid)], stdin=subprocess.DEVNULL, capture_output=True, timeout=PY_SPY_S
        )
        if done.returncode == 0:
            return done.stdout[:STACK_BYTES].decode("utf-8", "replace")
    return ""


def by_signal(pid: int, path: str) -> str:
    """Return what a process writes on the signal; empty if it does not handle it, because it would die of it."""
    if not _handles(pid) or not os.path.isfile(path):
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
    with open(path, "rb") as file:
        file.seek(before)
        return file.read(STACK_BYTES).decode("utf-8", "replace")


def _handles(pid: int) -> bool:
    """Return whether a process has a handler for the signal (proc(5): SigCgt)."""
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", _read(pid, "status"), re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (SIGNAL - 1) & 1)


def _read(pid: int, name: str) -> str:
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
