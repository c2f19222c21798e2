"""A connection to a server: what comes and goes, and when an idle one is still of use."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import httpcore2
import pytest

from pi.door.lines import MOST_WAITING, LineStream


def on_a_line(use: Callable[[LineStream, socket.socket], Awaitable[object]]) -> None:
    """Use a connection and the server's end of it."""

    async def used() -> None:
        here, there = socket.socketpair()
        with there:
            line = await LineStream.over(here)
            await use(line, there)
            await line.aclose()
            await asyncio.sleep(0)

    asyncio.run(used())


def test_an_idle_connection_is_dropped_after_a_sleep_bytes_or_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(line: LineStream, there: socket.socket) -> None:
        now = time.time()
        assert line.get_extra_info("is_readable") is False
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: now + 3600)  # a laptop's sleep; time.monotonic stands still
            assert line.get_extra_info("is_readable") is True
        assert line.get_extra_info("is_readable") is False
        there.sendall(b"x")
        await asyncio.sleep(0.05)
        assert line.get_extra_info("is_readable") is True
        assert await line.read(9) == b"x"
        there.close()
        await asyncio.sleep(0.05)
        assert line.get_extra_info("is_readable") is True
        assert line.get_extra_info("socket") is None

    on_a_line(use)


def test_one_read_gets_all_that_has_come_and_the_end_is_empty() -> None:
    async def use(line: LineStream, there: socket.socket) -> None:
        waiting = asyncio.ensure_future(line.read(1 << 20))
        await asyncio.sleep(0)
        there.sendall(b"a")
        assert await waiting == b"a"
        for piece in (b"b", b"c", b"d"):
            there.sendall(piece)
        await asyncio.sleep(0.05)
        assert await line.read(2) == b"bc" and await line.read(9) == b"d"
        there.close()
        assert await line.read(9) == b"" and await line.read(9) == b""

    on_a_line(use)


def test_a_server_waits_for_a_slow_reader() -> None:
    async def use(line: LineStream, there: socket.socket) -> None:
        there.setblocking(False)
        data, sent = bytes(8 * MOST_WAITING), 0
        while True:
            try:
                sent += there.send(data[sent:])
            except BlockingIOError:
                await asyncio.sleep(0.02)
                try:
                    sent += there.send(data[sent:])
                except BlockingIOError:
                    break
        assert sent < len(data)
        found = 0
        while found < sent:
            found += len(await line.read(1 << 16))
        assert found == sent

    on_a_line(use)


def test_a_connection_that_breaks_is_a_read_or_write_error() -> None:
    async def use(line: LineStream, there: socket.socket) -> None:
        await line.write(b"x" * 10_000)
        there.close()  # with unread bytes, so the other end gets a reset
        with pytest.raises(httpcore2.ReadError):
            await line.read(9)
        with pytest.raises(httpcore2.WriteError):
            await line.write(b"x")

    on_a_line(use)
