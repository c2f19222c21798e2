"""Connections of the door to the servers on pods, over SSH, for httpcore2's pool."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

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
        return LineStream(await self._roads[host][1].dial(port))


class LineStream(httpcore2.AsyncNetworkStream):
    """A connection to a pod's port, without time-outs: SSH itself notices a dead connection."""

    def __init__(self, line: socket.socket | Line) -> None:
        self._line = line
        self._socket = line.socket if isinstance(line, Line) else line
        self._socket.setblocking(False)
        self._used = time.time()  # also counts a laptop's sleep

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, max_bytes)
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from error
        finally:
            self._used = time.time()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, buffer)
        except OSError as error:
            raise httpcore2.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Close the socket now; ssh ends in the background."""
        self._socket.close()
        asyncio.get_running_loop().run_in_executor(None, self._line.close)

    def get_extra_info(self, info: str) -> object:
        """Return for "is_readable" whether an idle connection is of no use: it has something to read, or is old."""
        if info != "is_readable":
            return None
        if time.time() - self._used > IDLE_S:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))


def new_pool(lines: Lines) -> httpcore2.AsyncConnectionPool:
    return httpcore2.AsyncConnectionPool(max_connections=None, keepalive_expiry=IDLE_S, network_backend=lines)
