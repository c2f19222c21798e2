"""`health.get`: one request to a server that may answer anything; and work in threads."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import suppress

import pytest

from pi.on_pod import health, together

OK = b"HTTP/1.1 200 OK\r\n"

ANSWERS: dict[str, tuple[bytes, tuple[int, bytes]]] = {
    "with its length": (OK + b"Content-Length: 2\r\n\r\nabcd", (200, b"abcd")),
    "without its length": (OK + b"\r\nab", (200, b"ab")),
    "refused": (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", (401, b"")),
    "without a reason": (b"HTTP/1.0 503\r\n\r\n", (503, b"")),
    "no end of the head": (OK + b"X: y\r\n", (0, b"")),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", (0, b"")),
    "no number": (b"HTTP/1.1 abc OK\r\n\r\n", (0, b"")),
    "nothing": (b"", (0, b"")),
    "a wrong length": (OK + b"Content-Length: -1\r\n\r\nab", (200, b"ab")),
    "too much": (OK + b"\r\n" + b"x" * (3 << 20), (200, b"x" * (1 << 20))),
    "a head without an end": (b"x" * (4 << 20), (0, b"")),
}


def asked(answer: bytes, asks: list[bytes], stays: bool = False) -> tuple[int, bytes]:
    """Return what pi reads from a server that gives this answer, and closes the connection unless it `stays`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as link, suppress(OSError):
                asks.append(link.recv(65536))
                link.sendall(answer)
                if stays:
                    link.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        return health.get(server.getsockname()[1], "/v1/models", "sk-key", timeout_s=2)


@pytest.mark.parametrize(("answer", "read"), ANSWERS.values(), ids=ANSWERS)
def test_any_answer_is_read_or_counts_as_none(answer: bytes, read: tuple[int, bytes]) -> None:
    assert asked(answer, []) == read


def test_a_server_that_keeps_the_connection_costs_no_time() -> None:
    asks: list[bytes] = []
    body = json.dumps({"data": []}).encode()
    began = time.monotonic()
    assert asked(OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body), asks, stays=True) == (200, body)
    assert time.monotonic() - began < 1
    assert re.fullmatch(
        rb"GET /v1/models HTTP/1\.0\r\nHost: 127\.0\.0\.1:\d+\r\nAuthorization: Bearer sk-key\r\n\r\n", asks[0]
    )


def test_a_port_without_a_server_and_a_damaged_key_answer_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert health.get(port, "/health") == (0, b"")
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert health.get(server.getsockname()[1], "/health", "sk-\N{SNOWMAN}", timeout_s=0.5) == (0, b"")


def test_results_come_in_the_order_of_the_values_and_errors_are_raised() -> None:
    def late(value: int) -> int:
        time.sleep(0.02 * (3 - value))
        return 10 // value

    assert together.mapped(late, [1, 2, 3]) == [10, 5, 3]
    assert together.mapped(late, []) == []
    assert together.mapped(late, [2] * 40, at_once=4) == [5] * 40
    for values in ([0], [1, 0, 2]):
        with pytest.raises(ZeroDivisionError):
            together.mapped(late, values)
