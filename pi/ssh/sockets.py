"""Sockets to SSH servers: a server has to greet in time, and small packets may gather, for streams of tokens."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import threading
import time
from typing import Any

from pi.text import one_line

REST_S = 0.04
"""How long a trickle is let gather: it comes 25 times a second."""

PAUSE_S = 0.03
"""A read that takes longer than this ends a trickle."""

TRICKLE_S = 0.3
"""How long data trickles before it is let gather, so that what comes first comes at once."""

BULK_BYTES = 64 * 1024
"""How much is taken at once; as much as this is no trickle."""


def connect(host: str, port: int, timeout_s: float) -> GreetedSocket:
    """A socket that is connected to an SSH server, which may take the rest of the time-out to greet.

    Each address of the host gets its share of the time-out, so that one that is dead does not use it up. Nagle's
    delay, which would add 40 ms to every small round trip, is off. Raises OSError.
    """
    deadline = time.monotonic() + timeout_s
    addresses = _addresses(host, port, timeout_s)
    problem: OSError = TimeoutError()
    for at, (family, kind, protocol, _, address) in enumerate(addresses):
        with contextlib.ExitStack() as undone:
            try:
                connected = undone.enter_context(socket.socket(family, kind, protocol))
                connected.settimeout(max(0.1, deadline - time.monotonic()) / (len(addresses) - at))
                connected.connect(address)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                undone.pop_all()
                return GreetedSocket(connected, deadline)
            except OSError as error:
                problem = error
    raise problem


def _addresses(host: str, port: int, timeout_s: float) -> list[Any]:
    """What the system knows the host's name to be. The system's own look-up has no time-out."""
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error)))

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise socket.gaierror(socket.EAI_AGAIN, f"no answer within {timeout_s} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


class GatheringSocket(socket.socket):
    """Takes over a connected socket, and reads from it as much at once as there is.

    While it `gathers`, it rests before it waits for more of what trickles in: to wake for every packet costs more
    than the packet. An answer that is waited for, and data that comes in bulk, come at once.
    """

    gathers = False

    def __init__(self, connected: socket.socket) -> None:
        timeout = connected.gettimeout()
        super().__init__(connected.family, connected.type, connected.proto, connected.detach())
        self.settimeout(timeout)
        self._held = memoryview(b"")
        self._trickles_since = time.monotonic()

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self._held:
            self._held = memoryview(self._received())
        taken, self._held = self._held[:size], self._held[size:]
        return bytes(taken)

    def _received(self) -> bytes:
        if self.gathers and time.monotonic() - self._trickles_since > TRICKLE_S:
            time.sleep(REST_S)
        asked = time.monotonic()
        try:
            data = super().recv(BULK_BYTES)
        except TimeoutError:
            self._trickles_since = time.monotonic()
            raise
        received = time.monotonic()
        if received - asked > PAUSE_S or len(data) == BULK_BYTES:
            self._trickles_since = received
        return data


class GreetedSocket(GatheringSocket):
    """Takes over a connected socket on which an SSH server is to greet until a deadline.

    What it sends before that is kept. After the deadline, or MOST bytes that are no greeting, the stream ends: a
    stranger may say anything for ever.
    """

    MOST = 16 * 1024

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        super().__init__(connected)
        self._deadline = deadline
        self._heard = b""
        self._is_greeted = False

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self._is_greeted:
            return super().recv(size, flags)
        if len(self._heard) > self.MOST or time.monotonic() > self._deadline:
            return b""
        data = super().recv(size, flags)
        self._heard += data
        self._is_greeted = bool(re.search(rb"^SSH-", self._heard, re.MULTILINE))
        return data

    def objection(self, timeout_s: int) -> str | None:
        """Why this is no SSH server, as a predicate; None where it greeted as one."""
        if self._is_greeted:
            return None
        said = self._heard.decode("utf-8", "replace").strip()
        if said:
            return f'does not speak SSH (got "{one_line(said.splitlines()[0], 80)}")'
        if time.monotonic() > self._deadline:
            return f"accepts the connection and then says nothing for {timeout_s} s"
        return "closes the connection at once (too busy, or this address is not let in)"
