"""Connections of the door to the servers on pods, over SSH, for httpcore2's pool."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import httpcore2

from pi import config
from pi.pods.types import Pod
from pi.ssh import openssh, target
from pi.ssh.line import Line
from pi.ssh.openssh import Way

IDLE_S = 4.0
"""How long a connection is kept for the next request; vLLM closes it after 5 s (VLLM_HTTP_TIMEOUT_KEEP_ALIVE)."""

PARALLEL = 4
"""Connections that are opened to a pod at the same time: sshd drops many logins at once (MaxStartups)."""


class Road:
    """The way to a pod at one address; it opens one warm connection, and each dial uses it."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._warming = threading.Lock()
        self._dialling = asyncio.Semaphore(PARALLEL)
        self._threads = ThreadPoolExecutor(PARALLEL)

    async def dial(self, port: int) -> socket.socket | Line:
        """Connect to a port of the pod. Raises ConnectionRefusedError, UnreachableError or HostKeyError."""
        async with self._dialling:
            dialled = asyncio.get_running_loop().run_in_executor(self._threads, self._dial, port)
            try:
                return await asyncio.shield(dialled)
            except asyncio.CancelledError:
                dialled.add_done_callback(_close)
                raise

    def _dial(self, port: int) -> socket.socket | Line:
        with self._warming:
            self._way.warm_up()
        return self._way.dial(port)


def _close(dialled: asyncio.Future[socket.socket | Line]) -> None:
    """Close a connection that nobody waits for any more."""
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().close()


class Lines(httpcore2.AsyncNetworkBackend):
    """Connects to ports of pods; a pod's name stands for its host."""

    def __init__(self) -> None:
        self._roads: dict[str, tuple[tuple[str, str], Road]] = {}

    def know(self, pod: Pod) -> None:
        """Remember where a pod is now."""
        address = pod.ssh, pod.host_key
        if pod.name not in self._roads or self._roads[pod.name][0] != address:
            way = openssh.way_to(target.parse(pod.ssh), config.config_dir(), pod.host_key)
            self._roads[pod.name] = address, Road(way)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return await LineStream.over(await self._roads[host][1].dial(port))


MOST_WAITING = 256 * 1024
"""Bytes that a server has sent and nobody has read, from which on it has to wait."""


class Inbox(asyncio.Protocol):
    """What a server has sent and nobody has read yet. All of that comes with one read, so small pieces cost less."""

    def __init__(self) -> None:
        self.waiting = bytearray()
        self.has_ended = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        self._wake()
        if self._transport and len(self.waiting) > MOST_WAITING:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self.has_ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended, self._error = True, exc
        self._wake()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def take(self, most: int) -> bytes:
        """Return what has come, at least a byte; empty at the end. Raises OSError."""
        while not self.waiting and not self.has_ended:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self.waiting and self._error:
            raise self._error
        data = bytes(self.waiting[:most])
        del self.waiting[:most]
        if self._transport and len(self.waiting) <= MOST_WAITING:
            self._transport.resume_reading()
        return data

    async def written(self) -> None:
        """Wait until the server has taken most of what was written. Raises OSError if the connection is gone."""
        await self._writable.wait()
        if self.has_ended and self._error:
            raise self._error

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)


class LineStream(httpcore2.AsyncNetworkStream):
    """A connection to a pod's port, without time-outs: SSH itself notices a dead connection."""

    def __init__(self, line: socket.socket | Line, transport: asyncio.Transport, inbox: Inbox) -> None:
        self._line, self._transport, self._inbox = line, transport, inbox
        self._used = time.time()  # also counts a laptop's sleep

    @classmethod
    async def over(cls, line: socket.socket | Line) -> LineStream:
        """Use a connection for requests."""
        own = line.socket if isinstance(line, Line) else line
        own.setblocking(False)
        return cls(line, *await asyncio.get_running_loop().create_connection(Inbox, sock=own))

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return await self._inbox.take(max_bytes)
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from error
        finally:
            self._used = time.time()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._transport.write(buffer)
            await self._inbox.written()
        except OSError as error:
            raise httpcore2.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Close the socket now; ssh ends in the background."""
        self._transport.abort()
        asyncio.get_running_loop().run_in_executor(None, self._line.close)

    def get_extra_info(self, info: str) -> object:
        """Return for "is_readable" whether an idle connection is of no use: it has something to read, or is old."""
        if info != "is_readable":
            return None
        return bool(self._inbox.waiting) or self._inbox.has_ended or time.time() - self._used > IDLE_S


def new_pool(lines: Lines) -> httpcore2.AsyncConnectionPool:
    return httpcore2.AsyncConnectionPool(max_connections=None, keepalive_expiry=IDLE_S, network_backend=lines)
