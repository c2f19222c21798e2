"""A socket that lets small packets gather, for streams of tokens."""

from __future__ import annotations

import socket
import time

REST_S = 0.04
"""How long a trickle is let gather: it comes 25 times a second."""

CAUGHT_UP_S = 0.001
"""A read that takes longer has waited, so nothing was left to take."""

PAUSE_S = 0.03
"""A read that takes longer than this ends a trickle."""

TRICKLE_S = 0.3
"""How long data trickles before it is let gather, so that what comes first comes at once."""

BULK_BYTES = 64 * 1024
"""More than this between two waits is no trickle."""


class GatheringSocket(socket.socket):
    """Takes over a connected socket. While `gathers`, a read of packets that trickle in rests before it returns.

    To wake for every packet costs more than the packet: at 200 tokens a second the rests halve what SSH takes.
    An answer that is waited for, and data that comes in bulk, come at once.
    """

    gathers = False

    def __init__(self, connected: socket.socket) -> None:
        timeout = connected.gettimeout()
        super().__init__(connected.family, connected.type, connected.proto, connected.detach())
        self.settimeout(timeout)
        self._trickles_since = time.monotonic()
        self._size = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        asked = time.monotonic()
        try:
            data = super().recv(size, flags)
        except TimeoutError:
            self._trickles_since = time.monotonic()
            raise
        received = time.monotonic()
        waited_s = received - asked
        self._size += len(data)
        if waited_s > PAUSE_S:
            self._trickles_since = received
        if waited_s > CAUGHT_UP_S:
            if self.gathers and self._size < BULK_BYTES and received - self._trickles_since > TRICKLE_S:
                time.sleep(REST_S)
            self._size = 0
        return data
