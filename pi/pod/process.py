"""Processes of a pod, read from /proc: who is who, who is alive, and how a group is ended.

A process is named by pid, start time and boot id together (proc(5): /proc/PID/stat field 22 and
/proc/sys/kernel/random/boot_id), never by a bare pid, which another process may have by now.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, NamedTuple, Optional

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


class Listener(NamedTuple):
    """A TCP socket that waits for callers. Only what binds a loopback address is out of a network's reach."""

    port: int
    inode: str
    is_local: bool


def listening_ports() -> set[int]:
    """TCP ports that any process of the pod listens on."""
    return {listener.port for listener in _listeners()}


def owns_port(owners: Iterable[int], port: int) -> bool:
    """Whether the socket that listens on `port` is open in one of these processes."""
    return any(listener.port == port for listener in _listeners_of(owners))


def public_ports(owners: Iterable[int]) -> set[int]:
    """TCP ports that these processes listen on beyond the pod's loopback."""
    return {listener.port for listener in _listeners_of(owners) if not listener.is_local}


def _listeners_of(owners: Iterable[int]) -> list[Listener]:
    held = set()
    for pid in owners:
        folder = "/proc/%d/fd" % pid
        with contextlib.suppress(OSError):
            for number in os.listdir(folder):
                with contextlib.suppress(OSError):
                    held.add(os.readlink(os.path.join(folder, number)))
    return [listener for listener in _listeners() if "socket:[%s]" % listener.inode in held]


LOOPBACKS = re.compile(r"[0-9A-F]{6}7F|0{24}01000000|0{16}FFFF0000[0-9A-F]{6}7F")
"""127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104 as the kernel prints them, each 32-bit word little-endian."""


def _listeners() -> Iterator[Listener]:
    """Every listening TCP socket (proc(5): /proc/net/tcp, state 0A)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(table).splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A":
                address, _, port = cells[1].rpartition(":")
                yield Listener(int(port, 16), cells[9], bool(LOOPBACKS.fullmatch(address)))


def _read(path: str) -> str:
    return _read_bytes(path).decode("utf-8", "replace")


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
