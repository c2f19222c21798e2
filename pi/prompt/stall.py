"""Notices that a stream has stopped in the middle, which a read that waits for its next byte cannot."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

LOOKS = 20
"""How often the guard looks in the time that it grants."""


class StallGuard:
    """Ends the connection of a response when, after `begin`, one read waits for `idle_seconds`.

    The read that waits then fails, and `stalled` tells why. Before `begin` nothing is done: a long prompt takes
    its time. The time in which nobody reads does not count (a terminal that Ctrl+S holds, a pager), nor does the
    time in which this process is stopped (Ctrl+Z): the guard counts its own looks, and looks at no clock.
    """

    def __init__(self, response: Any, idle_seconds: float) -> None:
        self.stalled = False
        self._socket = response.extensions["network_stream"].get_extra_info("socket")
        self._pieces: Iterator[bytes] = response.iter_bytes()
        self._idle_seconds = idle_seconds
        self._begun = False
        self._reads = 0
        self._waiting = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pi-stall-guard", daemon=True)

    def begin(self) -> None:
        """The answer has begun."""
        self._begun = True

    def pieces(self) -> Iterator[bytes]:
        """The body of the response as it comes."""
        while True:
            self._reads += 1
            self._waiting = True
            try:
                piece = next(self._pieces, None)
            finally:
                self._waiting = False
            if piece is None:
                return
            yield piece

    def __enter__(self) -> StallGuard:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _watch(self) -> None:
        read = looks = 0
        while not self._over.wait(self._idle_seconds / LOOKS):
            if not self._waiting or not self._begun or read != self._reads:
                read, looks = self._reads, 0
                continue
            looks += 1
            if looks >= LOOKS:
                self.stalled = True
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return
