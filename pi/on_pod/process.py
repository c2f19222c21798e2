"""Processes of a pod, read from /proc: their identity, their sockets, and how to end them.

Pid, start time and boot id together identify a process (proc(5): /proc/PID/stat field 22 and
/proc/sys/kernel/random/boot_id), because another process may get the same pid.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from functools import cached_property
from typing import Callable, Iterable, Iterator, NamedTuple, Optional, Set

from pi.on_pod.pace import paced

POLL_S = 0.05

KILL_PATIENCE_S = 10


def boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id").strip()


def boot() -> str:
    """Return one word for the machine and its boot.

    Containers of one machine share its boot id, but each has its own first process.
    """
    return "%s/%d" % (boot_id(), first_started())


def first_started() -> int:
    """Return when the pod's first process started, in ticks. Every process of the pod is younger."""
    first = stat(1)
    return first[2] if first else 0


def up_s() -> float:
    """Return the seconds since the pod's first process started."""
    return max(0.0, uptime_s() - first_started() / os.sysconf("SC_CLK_TCK"))


def uptime_s() -> float:
    """Return the seconds since the machine booted: unlike the time of day, nobody sets this clock."""
    return float(_read("/proc/uptime").split()[0])


def stat(pid: int) -> Optional[tuple[str, int, int]]:
    """Return (state, session id, start time in ticks) of a process, or None if it is gone."""
    text = _read("/proc/%d/stat" % pid)
    if not text:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
    return fields[0], int(fields[3]), int(fields[19])


def is_alive(pid: int, started: int, boot: str) -> bool:
    """Return whether exactly this process lives. A zombie is dead: a container may never reap it."""
    fields = stat(pid)
    return bool(fields and fields[0] not in "ZX" and fields[2] == started and boot == boot_id())


def pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


class Living(NamedTuple):
    """A living process: its session, and the instance ids in its environment."""

    pid: int
    session: int
    instances: list[str]


def living() -> list[Living]:
    """Return every living process but this one."""
    found = []
    for pid in pids():
        fields = stat(pid)
        if fields and fields[0] not in "ZX" and pid != os.getpid():
            found.append(Living(pid, fields[1], _instances(_read_bytes("/proc/%d/environ" % pid))))
    return found


class Look:
    """What /proc shows now, read once and on first use, for questions about several deployments."""

    @cached_property
    def living(self) -> list[Living]:
        return living()

    @cached_property
    def listeners(self) -> list[Listener]:
        return list(_listeners())


def _instances(environment: bytes) -> list[str]:
    if b"PI_INSTANCE=" not in environment:
        return []
    marks = (entry.partition(b"PI_INSTANCE=") for entry in environment.split(b"\0"))
    return [os.fsdecode(instance) for before, mark, instance in marks if mark and not before]


def members(session: int, instance: str, among: Optional[list[Living]] = None) -> list[int]:
    """Return the living processes of a deployment: those of its session, or with its instance id in the environment.

    A child that leaves the session keeps its environment. vLLM's engine processes stay in the session, but
    overwrite their environment with their new name (setproctitle). `among` is an earlier look.
    """
    return members_of({session}, {instance}, among)


def members_of(sessions: Iterable[int], instances: Iterable[str], among: Optional[list[Living]] = None) -> list[int]:
    """Return the living processes of these sessions, and those with one of these ids in their environment."""
    sessions, marks = set(sessions), set(filter(None, instances))
    looked = living() if among is None else among
    return [each.pid for each in looked if each.session in sessions or marks.intersection(each.instances)]


def environment(pid: int, name: str) -> dict[str, str]:
    """Return the environment that a process was started with, if this variable is in it, else {}."""
    text = b"\0" + _read_bytes("/proc/%d/environ" % pid)
    if b"\0%s=" % name.encode() not in text:
        return {}
    return dict(os.fsdecode(entry).partition("=")[::2] for entry in text.split(b"\0") if b"=" in entry)


def ancestors() -> Set[int]:
    """Return this process and those that started it, one after the other."""
    found, pid = set(), os.getpid()
    while pid and pid not in found:
        found.add(pid)
        fields = _read("/proc/%d/stat" % pid).rpartition(")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0
    return found


def words(pid: int) -> list[str]:
    """Return the command line of a process, or [] if it has ended."""
    return [os.fsdecode(word) for word in _read_bytes("/proc/%d/cmdline" % pid).split(b"\0")[:-1]]


def is_own(pid: int) -> bool:
    """Return whether this account runs the process."""
    try:
        return os.stat("/proc/%d" % pid).st_uid == os.geteuid()
    except OSError:
        return False


def output(pid: int) -> str:
    """Return the path of a process's standard output, or "" if it has none."""
    try:
        return os.readlink("/proc/%d/fd/1" % pid)
    except OSError:
        return ""


Tell = Callable[[str], None]
"""Gets a line about what the work waits for."""


class Ending(NamedTuple):
    """How processes were ended: whether all are gone, and the seconds after which KILL was sent."""

    gone: bool
    forced_after_s: Optional[float]


def end(
    tell: Tell,
    leader: Optional[int],
    find_members: Callable[[], list[int]],
    patience_s: float,
    number: signal.Signals = signal.SIGTERM,
) -> Ending:
    """Send TERM (or `number`) to the leader, wait, then send KILL to all that `find_members()` still returns.

    Only the leader gets TERM: vLLM's API server may hang if its whole group gets it.
    """
    if leader is not None:
        _signal(leader, number)
        fields = stat(leader)
        if fields and fields[0] in "Tt":  # a stopped process gets its signal only when it continues
            _signal(leader, signal.SIGCONT)
    else:
        patience_s = 0
    if _gone(tell, find_members, patience_s):
        return Ending(True, None)
    return Ending(_gone(tell, find_members, KILL_PATIENCE_S, signal.SIGKILL), patience_s or None)


def _gone(
    tell: Tell, find_members: Callable[[], list[int]], patience_s: float, number: Optional[signal.Signals] = None
) -> bool:
    """Wait until no member is left. Each one gets the signal, also one that was born after an earlier look."""
    deadline = time.monotonic() + paced(patience_s)
    reported = time.monotonic()
    while True:
        left = find_members()
        if not left:
            return True
        if number:
            for pid in left:
                _signal(pid, number)
        if time.monotonic() >= deadline:
            return False
        if time.monotonic() - reported > paced(5):
            reported = time.monotonic()
            count = "1 process" if len(left) == 1 else "%d processes" % len(left)
            tell("waiting for %s to end" % count)
        time.sleep(POLL_S)


def kill_group(leader: int) -> None:
    """Send KILL to a child process and its whole group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


class Listener(NamedTuple):
    """A listening TCP socket; `is_local` if it is bound to loopback, which no network reaches."""

    port: int
    socket: str
    """As /proc/PID/fd names it."""
    is_local: bool


def listening_ports() -> set[int]:
    """Return the TCP ports that any process of the pod listens on."""
    return {listener.port for listener in _listeners()}


def public_listeners() -> set[int]:
    """Return the TCP ports that the network reaches, of any process."""
    return {listener.port for listener in _listeners() if not listener.is_local}


def sockets(port: Optional[int] = None, among: Optional[list[Listener]] = None) -> set[str]:
    """Return the sockets that listen on a port, or on any; with SO_REUSEPORT, one port may have several."""
    listening = _listeners() if among is None else among
    return {listener.socket for listener in listening if port in (None, listener.port)}


def ports(of: set[str]) -> list[int]:
    """Return the ports of these sockets."""
    return sorted({listener.port for listener in _listeners() if listener.socket in of})


def ports_of(owners: Iterable[int]) -> set[int]:
    """Return the TCP ports on which these processes listen."""
    return set(ports(set(holders(sockets(), owners))))


def public_ports(owners: Iterable[int]) -> set[int]:
    """Return the TCP ports on which these processes listen to the network."""
    public = [listener for listener in _listeners() if not listener.is_local]
    held = holders({listener.socket for listener in public}, owners)
    return {listener.port for listener in public if listener.socket in held}


def others(port: int, owners: Iterable[int], among: Optional[list[Listener]] = None) -> list[str]:
    """Describe the other processes that listen on a port, such as "pid 77 (python3)"."""
    listening = sockets(port, among)
    foreign = listening - set(holders(listening, owners))
    visible = set(holders(foreign, pids()).values()) if foreign else set()
    return sorted(map(described, visible)) or (["a process of another user"] if foreign else [])


def holders(wanted: set[str], among: Iterable[int]) -> dict[str, int]:
    """Return the process that has each socket open, of those given. Leaves out sockets of none of them."""
    owners: dict[str, int] = {}
    for pid in among:
        folder = "/proc/%d/fd" % pid
        with contextlib.suppress(OSError):
            for number in os.listdir(folder):
                with contextlib.suppress(OSError):
                    name = os.readlink(os.path.join(folder, number))
                    if name in wanted:
                        owners[name] = pid
    return owners


def described(pid: int) -> str:
    return "pid %d (%s)" % (pid, _read("/proc/%d/comm" % pid).strip() or "gone")


def lock_holder(inodes: Set[int]) -> Optional[int]:
    """Return a process that has locked one of these files for writing (proc(5): /proc/locks), or None."""
    locks = re.findall(r"^\d+: \w+\s+\w+\s+WRITE (\d+) \S+:(\d+) ", _read("/proc/locks"), re.M)
    return next((int(pid) for pid, inode in locks if int(inode) in inodes and int(pid)), None)


LOOPBACKS = re.compile(r"[0-9A-F]{6}7F|0{24}01000000|0{16}FFFF0000[0-9A-F]{6}7F")
"""127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104 as the kernel prints them, each 32-bit word little-endian."""


def _listeners() -> Iterator[Listener]:
    """Yield every listening TCP socket (proc(5): /proc/net/tcp, state 0A)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(table).splitlines()[1:]:
            cells = line.split() if " 0A " in line else []
            if cells[3:4] == ["0A"]:
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
