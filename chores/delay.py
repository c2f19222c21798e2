"""A proxy that delays a TCP connection: `python -m chores.delay PORT MS` prints its own port and serves until killed.

Each direction takes half of the round trip of MS milliseconds, and connecting takes one and a half, as over a real
network. The bandwidth has no limit.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, cast

PIECE_BYTES = 64 * 1024

PIECES_ON_THE_WAY = 2048
"""At most 128 MiB: more than SSH's window at any delay, so that the proxy never limits the speed."""


@contextlib.contextmanager
def delayed(port: int, round_trip_ms: int) -> Iterator[int]:
    """Yield a local port that connects to `port` with this delay; without one, `port` itself."""
    if not round_trip_ms:
        yield port
        return
    words = [sys.executable, "-m", "chores.delay", str(port), str(round_trip_ms)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            yield int(cast("IO[str]", proxy.stdout).readline())
        finally:
            proxy.kill()


def serve(port: int, round_trip_s: float) -> None:
    """Print the number of a new port, and connect each caller of it with `port` until this process ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            client, _ = server.accept()
            threading.Thread(target=_relay, args=(client, port, round_trip_s), daemon=True).start()


def _relay(client: socket.socket, port: int, round_trip_s: float) -> None:
    time.sleep(1.5 * round_trip_s)
    upstream = socket.create_connection(("127.0.0.1", port))
    for end in (client, upstream):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for source, sink in ((client, upstream), (upstream, client)):
        pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(PIECES_ON_THE_WAY)
        threading.Thread(target=_receive, args=(source, pieces, round_trip_s / 2), daemon=True).start()
        threading.Thread(target=_send, args=(sink, pieces), daemon=True).start()


def _receive(source: socket.socket, pieces: queue.Queue[tuple[float, bytes]], delay_s: float) -> None:
    piece = b"-"
    while piece:
        try:
            piece = source.recv(PIECE_BYTES)
        except OSError:
            piece = b""
        pieces.put((time.monotonic() + delay_s, piece))


def _send(sink: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
    while True:
        due, piece = pieces.get()
        time.sleep(max(0.0, due - time.monotonic()))
        with contextlib.suppress(OSError):
            if not piece:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(piece)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]) / 1000)
