"""The proxy of `inv bench --peers`: everything arrives, half a round trip later in each direction."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from chores.delay import delayed

DATA = bytes(range(256)) * 4096


def answer(server: socket.socket) -> None:
    """Send back what the one client sends."""
    client, _ = server.accept()
    with client:
        while piece := client.recv(65536):
            client.sendall(piece)


def send(line: socket.socket) -> None:
    line.sendall(DATA)
    line.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("round_trip_ms", [0, 100])
def test_a_delayed_connection_carries_everything(round_trip_ms: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        with delayed(server.getsockname()[1], round_trip_ms) as port:
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", port)) as line:
                threading.Thread(target=send, args=(line,)).start()
                first, first_after = line.recv(1), time.monotonic() - began
                rest = b"".join(iter(lambda: line.recv(65536), b""))
    assert first + rest == DATA
    assert first_after >= 2 * round_trip_ms / 1000, "connecting takes as long as an answer"
