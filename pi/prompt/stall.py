"""Notices that a stream has stopped in the middle, which a read that waits for its next byte cannot."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Any


class StallGuard:
    """Ends the connection of a response when, after its first bytes, none come for `idle_seconds`.

    The read that waits then fails, and `stalled` tells why. Before the first bytes nothing is done: a long
    prompt takes its time.
    """

    def __init__(self, response: Any, idle_seconds: float) -> None:
        self.stalled = False
        self._socket = response.extensions["network_stream"].get_extra_info("socket")
        self._idle_seconds = idle_seconds
        self._last: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pi-stall-guard", daemon=True)

    def alive(self) -> None:
        """Something has come."""
        self._last = time.monotonic()

    def __enter__(self) -> StallGuard:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(self._idle_seconds / 20):
            if self._last is not None and time.monotonic() - self._last > self._idle_seconds:
                self.stalled = True
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return
