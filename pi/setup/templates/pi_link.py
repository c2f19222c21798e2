"""End a rank whose peers are gone: `pi_link.py PID OWN WAIT_S POD=ADDRESS...`, run by its launcher.

PID is the rank's server, OWN this pod's private address. A peer must connect within WAIT_S; not all ranks have
connections with each other. With a peer that has connected, this rank's connections may be gone for at most GONE_S, and
its pod may be silent for at most SILENT_S: a pod that was cut off leaves its connections established. So this asks each
pod for a connection to a closed port, which its kernel refuses at once.

Else the file `link` beside this one gets the reason as JSON (`pod`, `address`, `what`: "late", "gone" or "silent", and
`text`), the log a line, and the server TERM. KILL follows for what is left of the session after KILL_S.
It ends with its server.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from pi_beside import HERE, fields_of, started_of, write  # type: ignore[import-not-found]

BEAT_S = 1.0

ASK_S = 2.0
"""How long a pod may take to refuse a connection."""

GONE_S = 5.0

SILENT_S = 15.0

RETRANSMITS = 7
"""So many in a row mean 25 s of silence (the time-out begins with 200 ms and doubles); for pods that never answered."""

KILL_S = 5.0

CLOSED_PORT = 9
"""The discard service, which nothing runs; an answer of one would do as well."""

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

ESTABLISHED = "01"


class Loss(NamedTuple):
    """`what` is "late" if no peer connected, "gone" if its connections are, "silent" if its pod is."""

    pod: str
    address: str
    what: str
    text: str


class Connection(NamedTuple):
    """An established connection: the peer's address as the kernel prints it, its socket, and how often in a row the
    last packet was sent again.
    """

    peer: str
    inode: str
    retransmits: int


class Peer:
    """Decides whether a peer is lost, by a clock that nobody sets."""

    def __init__(
        self, pod: str, address: str, wait_s: float, pace: float = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pod, self.address = pod, address
        self._wait_s, self._pace, self._clock = wait_s, pace, clock
        self._began = clock()
        self._connected: float | None = None
        self._answered: float | None = None
        self._is_stalled = False

    def see(self, connections: list[Connection], answers: bool) -> None:
        """Take in this rank's connections with it, and whether its pod has just answered."""
        now = self._clock()
        self._connected = now if connections else self._connected
        self._answered = now if answers else self._answered
        self._is_stalled = any(each.retransmits >= RETRANSMITS for each in connections)

    @property
    def has_connected(self) -> bool:
        return self._connected is not None

    def loss(self, is_alone: bool) -> Loss | None:
        """Return why the rank must end, or None. It `is_alone` if no peer has connected yet."""
        if self._connected is None:
            is_late = is_alone and self._clock() - self._began >= self._wait_s * self._pace
            return self._lost("late", f"did not connect within {self._wait_s:.0f} s") if is_late else None
        if self._clock() - self._connected >= GONE_S * self._pace:
            return self._lost("gone", "closed its connections: its rank has ended")
        if self._answered is None:
            return self._lost("silent", "does not acknowledge data: it is cut off") if self._is_stalled else None
        if self._clock() - self._answered >= SILENT_S * self._pace:
            return self._lost("silent", f"has not answered for {SILENT_S:.0f} s: it is cut off")
        return None

    def _lost(self, what: str, text: str) -> Loss:
        return Loss(self.pod, self.address, what, f"pod {self.pod} ({self.address}) {text}")


def printed(address: str) -> set[str]:
    """Return the forms of an address in /proc/net/tcp and tcp6: 32-bit words in the machine's byte order."""
    if ":" in address:
        return {_words(socket.inet_pton(socket.AF_INET6, address))}
    short = _words(socket.inet_aton(address))
    return {short, _words(bytes(10) + b"\xff\xff") + short}


def _words(packed: bytes) -> str:
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


def established(table: str, peers: set[str]) -> list[Connection]:
    """Return the established connections with these peers in the text of a table (proc(5): /proc/net/tcp).

    A connection that no process has accepted yet has inode 0 there.
    """
    found = []
    for line in table.splitlines()[1:]:
        cells = line.split()
        peer = cells[2].partition(":")[0] if len(cells) > 9 else ""
        if peer in peers and cells[3] == ESTABLISHED and cells[9] != "0":
            found.append(Connection(peer, cells[9], int(cells[6], 16)))
    return found


class Sockets:
    """Which sockets belong to the rank: its session's, without this program's own."""

    def __init__(self) -> None:
        self._is_own: dict[str, bool] = {}

    def own(self, connections: list[Connection]) -> list[Connection]:
        """Return those of the rank. Reads the processes again only if a socket is new."""
        present = {each.inode for each in connections}
        self._is_own = {inode: is_own for inode, is_own in self._is_own.items() if inode in present}
        if present - self._is_own.keys():
            held = {inode for pid in processes() if pid != os.getpid() for inode in inodes(pid)}
            self._is_own.update({inode: inode in held for inode in present})
        return [each for each in connections if self._is_own[each.inode]]


def inodes(pid: int) -> set[str]:
    """Return the inodes of a process's sockets."""
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                kind, _, inode = str(descriptor.readlink()).partition(":[")
                if kind == "socket":
                    found.add(inode[:-1])
    return found


def processes() -> list[int]:
    """Return the living processes of this session."""
    session, found = os.getsid(0), []
    for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        fields = fields_of(pid)
        if fields and fields[0] not in "ZX" and int(fields[3]) == session:
            found.append(pid)
    return found


def answering(own: str, addresses: Iterable[str]) -> set[str]:
    """Return the addresses whose pods answer: all are asked at once, from this pod's own address."""
    waiting: dict[int, tuple[socket.socket, str]] = {}
    found, pending = set(), set()
    for address in addresses:
        asking = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        asking.setblocking(False)
        waiting[asking.fileno()] = asking, address
        with contextlib.suppress(OSError):
            asking.bind((own, 0))
        error = asking.connect_ex((address, CLOSED_PORT))
        found |= {address} if is_answer(error) else set()
        pending |= {asking.fileno()} if error == errno.EINPROGRESS else set()  # without a route, SO_ERROR stays 0
    poll, deadline = select.poll(), time.monotonic() + ASK_S
    for number in pending:
        poll.register(number, select.POLLOUT)
    while pending and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left * 1000):
            poll.unregister(number)
            pending.discard(number)
            asking, address = waiting[number]
            if is_answer(asking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                found.add(address)
    for asking, _ in waiting.values():
        asking.close()
    return found


def is_answer(error: int) -> bool:
    return error in (0, errno.ECONNREFUSED)


def end(server: int, loss: Loss, pace: float) -> None:
    """End the rank; its launcher, which leads the session, notes how."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher ends its helpers when the server has ended
    write("link", json.dumps(loss._asdict()))
    print(f"pi: {loss.text}; ending this rank", flush=True)
    rank = others()  # without what the launcher starts later, such as its pauses
    with contextlib.suppress(ProcessLookupError):
        os.kill(server, signal.SIGTERM)
    deadline = time.monotonic() + KILL_S * pace
    while (left := rank & others()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def others() -> set[int]:
    """Return the processes of this session, without this one and the launcher."""
    return set(processes()) - {os.getpid(), os.getsid(0)}


def main() -> None:
    server, own, wait_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    pace = float(os.environ.get("PI_TEST_PACE") or 1)
    pairs = (word.rpartition("=") for word in sys.argv[4:])
    peers = [Peer(pod, address, wait_s, pace) for pod, _, address in pairs]
    forms = {peer.address: printed(peer.address) for peer in peers}
    wanted, sockets = set().union(*forms.values()), Sockets()
    started = started_of(server)
    while started is not None and started_of(server) == started:
        tables = [Path(table).read_text("ascii") for table in TABLES if Path(table).exists()]
        connections = sockets.own([each for table in tables for each in established(table, wanted)])
        answers = answering(own, forms)
        for peer in peers:
            peer.see([each for each in connections if each.peer in forms[peer.address]], peer.address in answers)
        is_alone = not any(peer.has_connected for peer in peers)
        loss = next(filter(None, (peer.loss(is_alone) for peer in peers)), None)
        if loss and not (HERE / "stopped").exists():
            end(server, loss, pace)
            return
        time.sleep(BEAT_S * pace)


if __name__ == "__main__":
    main()
