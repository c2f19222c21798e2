"""A server on 127.0.0.1 that answers every connection with the same bytes, at once or one a second."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def answering(answer: bytes, pause_s: float = 0) -> Iterator[str]:
    """Yield the server's address. With a pause, it sends single bytes, each after such a pause."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            for part in [answer] if not pause_s else [bytes([byte]) for byte in answer]:
                connection.sendall(part)
                time.sleep(pause_s)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
