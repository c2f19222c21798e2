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
from typing import Callable, Iterable, Iterator, NamedTuple, Optional

from pi.on_pod.pace import paced

POLL_S = 0.05

KILL_PATIENCE_S = 10


def boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id").strip()


def boot() -> str:
    """The machine and its boot, as one word. Containers of one machine share its boot id; each has its own first
    process."""
    return "%s/%d" % (boot_id(), first_started())


def first_started() -> int:
    """When the pod's first process started, in ticks: nothing older lives, in a container either."""
    first = stat(1)
    return first[2] if first else 0


def up_s() -> float:
    """Seconds since the pod's first process started."""
    return max(0.0, uptime_s() - first_started() / os.sysconf("SC_CLK_TCK"))


def uptime_s() -> float:
    """Seconds since the machine was started: a clock that nobody sets, unlike the time of day."""
    return float(_read("/proc/uptime").split()[0])


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

    A child that leaves the session keeps its environment; vLLM's engine processes, which stay, write their new
    name over theirs (setproctitle).
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


Tell = Callable[[str], None]
"""Takes a line on what is waited for."""


class Ending(NamedTuple):
    """How processes were ended: whether none is left, and after how many seconds of waiting KILL was sent."""

    gone: bool
    forced_after_s: Optional[float]


def end(tell: Tell, leader: Optional[int], find_members: Callable[[], list[int]], patience_s: float) -> Ending:
    """TERM to the leader, a wait, then KILL to all that `find_members()` still finds.

    Only the leader gets TERM: signalling vLLM's whole group at once can leave its API server hanging.
    """
    if leader is not None:
        _signal(leader, signal.SIGTERM)
    else:
        patience_s = 0
    if _gone(tell, find_members, patience_s):
        return Ending(True, None)
    for pid in find_members():
        _signal(pid, signal.SIGKILL)
    return Ending(_gone(tell, find_members, KILL_PATIENCE_S), patience_s or None)


def _gone(tell: Tell, find_members: Callable[[], list[int]], patience_s: float) -> bool:
    deadline = time.monotonic() + paced(patience_s)
    told = time.monotonic()
    while True:
        left = find_members()
        if not left:
            return True
        if time.monotonic() >= deadline:
            return False
        if time.monotonic() - told > paced(5):
            told = time.monotonic()
            count = "1 process" if len(left) == 1 else "%d processes" % len(left)
            tell("waiting for %s to end" % count)
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
    socket: str
    """As /proc/PID/fd names it."""
    is_local: bool


def listening_ports() -> set[int]:
    """TCP ports that any process of the pod listens on."""
    return {listener.port for listener in _listeners()}


def sockets(port: int) -> set[str]:
    """The sockets that listen on a port. Several may, where all said SO_REUSEPORT."""
    return {listener.socket for listener in _listeners() if listener.port == port}


def public_ports(owners: Iterable[int]) -> set[int]:
    """TCP ports that these processes listen on beyond the pod's loopback."""
    public = [listener for listener in _listeners() if not listener.is_local]
    held = holders({listener.socket for listener in public}, owners)
    return {listener.port for listener in public if listener.socket in held}


def strangers(port: int, owners: Iterable[int]) -> list[str]:
    """Who else than the owners listens on a port, in words such as "pid 77 (python3)"."""
    listening = sockets(port)
    strange = listening - set(holders(listening, owners))
    known = set(holders(strange, pids()).values()) if strange else set()
    return sorted(map(described, known)) or (["a process of another user"] if strange else [])


def holders(wanted: set[str], among: Iterable[int]) -> dict[str, int]:
    """Which of these processes has each of the sockets open; a socket of none of them is left out."""
    found: dict[str, int] = {}
    for pid in among:
        folder = "/proc/%d/fd" % pid
        with contextlib.suppress(OSError):
            for number in os.listdir(folder):
                with contextlib.suppress(OSError):
                    name = os.readlink(os.path.join(folder, number))
                    if name in wanted:
                        found[name] = pid
    return found


def described(pid: int) -> str:
    return "pid %d (%s)" % (pid, _read("/proc/%d/comm" % pid).strip() or "gone")


LOOPBACKS = re.compile(r"[0-9A-F]{6}7F|0{24}01000000|0{16}FFFF0000[0-9A-F]{6}7F")
"""127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104 as the kernel prints them, each 32-bit word little-endian."""


def _listeners() -> Iterator[Listener]:
    """Every listening TCP socket (proc(5): /proc/net/tcp, state 0A)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(table).splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A":
                address, _, port = cells[1].rpartition(":")
                yield Listener(int(port, 16), "socket:[%s]" % cells[9], bool(LOOPBACKS.fullmatch(address)))


def _read(path: str) -> str:
    return _read_bytes(path).decode("utf-8", "replace")


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
