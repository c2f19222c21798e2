"""Processes of a pod, read from /proc: who is who, who is alive, and how a group is ended.

A process is named by pid, start time and boot id together (proc(5): /proc/PID/stat field 22 and
/proc/sys/kernel/random/boot_id), never by a bare pid, which another process may have by now.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, Optional

if TYPE_CHECKING:
    from pi.pod.wire import Wire

POLL_S = 0.05


def boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id").strip()


def stat(pid: int) -> Optional[tuple[str, int, int]]:
    """(state, session id, start time in ticks) of a process, or None when it is gone."""
    text = _read("/proc/%d/stat" % pid)
    if not text:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
    return fields[0], int(fields[3]), int(fields[19])


def is_alive(pid: int, started: int, boot: str) -> bool:
    """Whether exactly this process lives. A zombie is dead: a container's first process may never reap it."""
    found = stat(pid)
    return bool(found and found[0] not in "ZX" and found[2] == started and boot == boot_id())


def pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def members(session: int, instance: str) -> list[int]:
    """Living processes of a deployment: its session, and any that carry its instance id in the environment.

    vLLM renames its workers and one of them may leave the session; the environment stays.
    """
    mark = ("PI_INSTANCE=" + instance).encode()
    found = []
    for pid in pids():
        known = stat(pid)
        if not known or known[0] in "ZX" or pid == os.getpid():
            continue
        if known[1] == session or mark in _read_bytes("/proc/%d/environ" % pid).split(b"\0"):
            found.append(pid)
    return found


def end(wire: Wire, leader: Optional[int], find_members: Callable[[], list[int]], patience_s: float) -> bool:
    """TERM to the leader, a wait, then KILL to all that `find_members()` still finds. True when none is left.

    Only the leader gets TERM: signalling vLLM's whole group at once can leave its API server hanging.
    """
    if leader is not None:
        _signal(leader, signal.SIGTERM)
    if _gone(wire, find_members, patience_s if leader is not None else 0):
        return True
    for pid in find_members():
        _signal(pid, signal.SIGKILL)
    return _gone(wire, find_members, 10)


def _gone(wire: Wire, find_members: Callable[[], list[int]], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    told = time.monotonic()
    while True:
        left = find_members()
        if not left:
            return True
        if time.monotonic() >= deadline:
            return False
        if time.monotonic() - told > 5:
            told = time.monotonic()
            wire.emit("progress", text="waiting for %d process(es) to end" % len(left))
        time.sleep(POLL_S)


def kill_group(leader: int) -> None:
    """KILL to a process of ours and all of its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def listening_ports() -> set[int]:
    """TCP ports that any process of the pod listens on."""
    return {port for port, _ in _listeners()}


def owns_port(owners: Iterable[int], port: int) -> bool:
    """Whether the socket that listens on `port` is open in one of these processes."""
    inodes = {inode for listening, inode in _listeners() if listening == port}
    wanted = {"socket:[%s]" % inode for inode in inodes}
    for pid in owners:
        with contextlib.suppress(OSError):
            folder = "/proc/%d/fd" % pid
            for number in os.listdir(folder):
                with contextlib.suppress(OSError):
                    if os.readlink(os.path.join(folder, number)) in wanted:
                        return True
    return False


def _listeners() -> Iterator[tuple[int, str]]:
    """(port, inode) of each listening TCP socket (proc(5): /proc/net/tcp, state 0A)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(table).splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A":
                yield int(cells[1].rpartition(":")[2], 16), cells[9]


def _read(path: str) -> str:
    return _read_bytes(path).decode("utf-8", "replace")


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
