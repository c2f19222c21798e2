"""How fast `pi prompt` is: to the first token, in CPU while it streams, and through its tunnel."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pi import connection, target
from tests.rig.sshd import SshdPod

PI = Path(sys.executable).parent / "pi"
TOKENS, TOKENS_PER_S = 1000, 200
STREAMINGS = 3
MEGABYTES = 200


def report(pod: SshdPod, environment: dict[str, str], port: int, name: str) -> None:
    """Print the figures; `name` is a model that runs on the pod at `port`."""
    with through_ssh(pod, environment) as link:
        first_token(link, environment, port, name)
        with answering() as served:
            streaming_cpu(environment, served)
            tunnel(link, served)


@contextlib.contextmanager
def through_ssh(pod: SshdPod, environment: dict[str, str]) -> Iterator[connection.Link]:
    link = connection.open_link(target.parse(pod.ssh), Path(environment["PI_CONFIG_DIR"]) / "known_hosts")
    try:
        yield link
    finally:
        link.close()


def first_token(link: connection.Link, environment: dict[str, str], port: int, name: str) -> None:
    """One token asked for by a whole `pi prompt`, and by curl through a tunnel that stands already."""
    body = json.dumps({"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]})
    ask = [PI, "prompt", name, "--no-tools", "--quiet", "--max-tokens", "1", "Hello"]
    pairs = []
    with link.forward(port) as local:
        curl = ["curl", "-s", f"http://127.0.0.1:{local}/v1/chat/completions", "-H", "Content-Type: application/json",
                "-H", f"Authorization: Bearer {environment['PI_API_KEY']}", "-d", body]  # fmt: skip
        for _ in range(7):
            times = []
            for command in (ask, curl):
                began = time.monotonic()
                subprocess.run(command, env=environment, capture_output=True, check=True)
                times.append(time.monotonic() - began)
            pairs.append(times)
    mine, its = (statistics.median(side) for side in zip(*pairs, strict=True))
    over = statistics.median(a - b for a, b in pairs)
    print(f"pi prompt, one token: {mine:.2f} s; curl: {its:.2f} s; {over:+.2f} s (target: at most +0.9 s)")


def streaming_cpu(environment: dict[str, str], served: int) -> None:
    """CPU of a whole `pi prompt` with 1,000 tokens at 200 a second, less that of one with a single token."""
    used = statistics.median(
        cpu_of(environment, served, TOKENS) - cpu_of(environment, served, 1) for _ in range(STREAMINGS)
    )
    share = used / (TOKENS / TOKENS_PER_S)
    print(
        f"pi prompt, {TOKENS} tokens at {TOKENS_PER_S}/s: {used:.2f} s of CPU, {share:.1%} of a core"
        " (target: at most 5 %)"
    )


def cpu_of(environment: dict[str, str], served: int, tokens: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["prompt", "--base-url", f"http://127.0.0.1:{served}/v1", "--model", "m", "--no-tools", str(tokens)]
    subprocess.run([PI, *words], env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def tunnel(link: connection.Link, served: int) -> None:
    """Throughput of one stream through the tunnel, and 50 at once."""
    with link.forward(served) as local:
        began = time.monotonic()
        got = fetched(local, MEGABYTES)
        speed = got / 1e6 / (time.monotonic() - began)
        results: list[int] = []
        began = time.monotonic()
        crowd = [threading.Thread(target=lambda: results.append(fetched(local, 1))) for _ in range(50)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
    whole = sum(size >= 1e6 for size in results)
    print(
        f"tunnel: {speed:.0f} MB/s (target: 100); 50 streams at once: {whole} whole in {time.monotonic() - began:.1f} s"
    )


def fetched(port: int, megabytes: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(f"GET /{megabytes} HTTP/1.0\r\n\r\n".encode())
        size = 0
        while chunk := client.recv(1 << 18):
            size += len(chunk)
    return size


class Answering(BaseHTTPRequestHandler):
    """GET /N: N megabytes. POST: a streamed answer of as many tokens as the message says, 200 a second."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(int(self.path.strip("/"))):
            self.wfile.write(b"x" * 1_000_000)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        began = time.monotonic()
        for number in range(int(request["messages"][-1]["content"])):
            time.sleep(max(0.0, began + number / TOKENS_PER_S - time.monotonic()))
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m",
                     "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}  # fmt: skip
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        last = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m",
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}  # fmt: skip
        self.wfile.write(f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def answering() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
