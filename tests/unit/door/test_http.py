"""The door as an HTTP server: large bodies, slow clients, old ones, many connections."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import ExitStack, closing

import pytest

from pi.door.app import LARGEST_BODY
from tests.rig.pod import until
from tests.unit.door.conftest import CHAT, Handler, Rig

ASK = {"model": "qwen", "messages": []}

MIB = 1024 * 1024


def raw(rig: Rig, text: str) -> socket.socket:
    """Send bytes as a client with the door's key, which @KEY stands for. Returns the connection."""
    line = socket.create_connection(("127.0.0.1", rig.port), timeout=20)
    line.sendall(text.replace("\n", "\r\n").replace("@KEY", f"x-api-key: {rig.key}").encode())
    return line


def all_of(line: socket.socket) -> bytes:
    with line, line.makefile("rb") as file:
        return file.read()


def test_a_body_of_100_mib_arrives_whole(rig: Rig) -> None:
    backend = rig.backend()
    rig.knows(dc1={"qwen": backend})
    body = json.dumps({**ASK, "image": "x" * 100 * MIB}).encode()
    assert rig.ask(CHAT, body).status == 200
    [got] = backend.got
    assert got.body == body


def test_a_body_that_is_too_large_is_refused_before_it_is_read(rig: Rig) -> None:
    line = raw(rig, f"POST {CHAT} HTTP/1.1\nHost: localhost\n@KEY\nContent-Length: {LARGEST_BODY + 1}\n\n")
    with line:
        assert line.recv(12) == b"HTTP/1.1 413"


def test_a_compressed_body_is_refused(rig: Rig) -> None:
    answer = rig.ask(CHAT, b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (answer.status, answer.error["code"]) == (415, "encoding_unsupported")


def test_a_client_that_reads_slowly_slows_the_server_down(rig: Rig) -> None:
    backend, written = rig.backend(), [0]

    def answer(handler: Handler) -> None:
        handler.begin_stream()
        for _ in range(64):
            handler.write(bytes(MIB))
            written[0] += 1
        handler.write(b"")

    backend.answer = answer
    rig.knows(dc1={"qwen": backend})
    with closing(rig.connect()) as connection:
        connection.request("POST", CHAT, json.dumps(ASK), {"x-api-key": rig.key})
        reply = connection.getresponse()
        assert until(lambda: stands_still(written))
        assert written[0] < 48, "the rest waits at the server, not in the door"
        assert len(reply.read()) == 64 * MIB


def stands_still(counter: list[int]) -> bool:
    before = counter[0]
    time.sleep(0.3)
    return before > 0 and counter[0] == before


def test_a_client_that_leaves_a_stream_ends_it_at_the_server(rig: Rig) -> None:
    backend, broken = rig.backend(), threading.Event()

    def answer(handler: Handler) -> None:
        handler.begin_stream()
        try:
            while not broken.wait(0.01):
                handler.write(b"data: x\n\n")
        except OSError:
            broken.set()

    backend.answer = answer
    rig.knows(dc1={"qwen": backend})
    connection = rig.connect()
    connection.request("POST", CHAT, json.dumps({**ASK, "stream": True}), {"x-api-key": rig.key})
    reply = connection.getresponse()
    assert reply.read1().startswith(b"data: x")
    reply.close()
    connection.close()
    assert broken.wait(20)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("HEAD", "/v1/models", 200), ("HEAD", CHAT, 405), ("OPTIONS", CHAT, 405), ("DELETE", "/v1/models", 405)],
)
def test_other_methods_get_a_status(rig: Rig, method: str, path: str, status: int) -> None:
    rig.knows(dc1={"qwen": rig.backend()})
    answer = rig.ask(path, method=method)
    assert answer.status == status and (answer.body == b"") is (method == "HEAD")


def test_a_client_of_http_1_0_gets_an_answer_that_ends_with_the_connection(rig: Rig) -> None:
    backend = rig.backend()

    def answer(handler: Handler) -> None:
        handler.begin_stream()
        handler.write(b"data: x\n\n")
        handler.write(b"")

    backend.answer = answer
    rig.knows(dc1={"qwen": backend})
    body = json.dumps({**ASK, "stream": True})
    line = raw(rig, f"POST {CHAT} HTTP/1.0\nHost: localhost\n@KEY\nContent-Length: {len(body)}\n\n{body}")
    head, _, rest = all_of(line).partition(b"\r\n\r\n")
    assert head.split()[1] == b"200" and rest == b"data: x\n\n" and b"chunked" not in head


def test_requests_that_come_at_once_on_a_connection_are_answered_in_order(rig: Rig) -> None:
    backend = rig.backend()
    backend.answer = lambda handler: handler.reply(200, handler.server.got[-1].body)
    rig.knows(dc1={"qwen": backend})
    requests = []
    for number in range(3):
        body, last = json.dumps({**ASK, "n": number}), "Connection: close\n" if number == 2 else ""
        requests.append(f"POST {CHAT} HTTP/1.1\nHost: localhost\n@KEY\n{last}Content-Length: {len(body)}\n\n{body}")
    answers = all_of(raw(rig, "".join(requests)))
    assert answers.count(b"HTTP/1.1 200") == 3
    assert [answers.index(f'"n": {number}'.encode()) for number in range(3)] == sorted(
        answers.index(f'"n": {number}'.encode()) for number in range(3)
    )


def test_500_idle_connections_do_not_keep_others_out_and_leave_nothing(rig: Rig) -> None:
    backend = rig.backend()
    rig.knows(dc1={"qwen": backend})
    assert rig.ask(CHAT, ASK).status == 200
    before = open_files()
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(socket.create_connection(("127.0.0.1", rig.port), timeout=20))
        assert rig.ask(CHAT, ASK).status == 200
    for _ in range(20):
        assert rig.ask(CHAT, ASK).status == 200
    assert until(lambda: open_files() <= before), f"{open_files()} open files, {before} before"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
