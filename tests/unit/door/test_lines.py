"""When an idle connection to a server is still of use."""

from __future__ import annotations

import socket
import time

import pytest

from pi.door.lines import LineStream


def test_an_idle_connection_is_dropped_after_a_sleep_bytes_or_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    with here, there:
        line, now = LineStream(here), time.time()
        assert line.get_extra_info("is_readable") is False
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: now + 3600)  # a laptop's sleep; time.monotonic stands still
            assert line.get_extra_info("is_readable") is True
        assert line.get_extra_info("is_readable") is False
        there.sendall(b"x")
        assert line.get_extra_info("is_readable") is True
        here.recv(1)
        there.close()
        assert line.get_extra_info("is_readable") is True
        assert line.get_extra_info("socket") is None
