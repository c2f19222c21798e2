"""The speed of `pi prompt`: to the first token, in CPU while it streams, and through its tunnel.

Wall times are noisy on a busy machine, so each line has the least of several next to the median, and the CPU
time of the whole process.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socketserver
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pi.prompt.endpoint import Line
from pi.ssh import openssh, target
from tests.rig.sshd import SshdPod

PI = Path(sys.executable).parent / "pi"
TOKENS, TOKENS_PER_S = 2000, 200
ROUNDS = 7
STREAMINGS = 5
MEGABYTES = 200
CANNED = "canned"


def report(pod: SshdPod, environment: dict[str, str], port: int, name: str) -> None:
    """Print the figures; `name` is a model that runs on the pod at `port`."""
    with through_ssh(pod, environment) as link:
        print("pi prompt until one token of the model has come:")
        first_token(link, environment, port, name, "Hello")
        canned(pod, link, environment)


def canned(pod: SshdPod, link: openssh.Way, environment: dict[str, str]) -> None:
    """Print the figures that need no model, with a server on the pod that answers at once."""
    with answering() as served:
        remember(pod, environment, served)
        print("pi prompt until one token of a server that answers at once has come:")
        first_token(link, environment, served, CANNED, "1")
        streaming_cpu(environment)
        tunnel(link, served)


def remember(pod: SshdPod, environment: dict[str, str], served: int) -> None:
    """Add the server to pods.json as a model of the pod."""
    file = Path(environment["PI_CONFIG_DIR"]) / "pods.json"
    known = json.loads(file.read_text())
    models = known["pods"][known["active"]]["models"]
    models[CANNED] = {"model": "m", "port": served, "gpus": [], "pid": os.getpid(), "status": "running"}
    file.write_text(json.dumps(known))


@contextlib.contextmanager
def through_ssh(pod: SshdPod, environment: dict[str, str]) -> Iterator[openssh.Way]:
    link = openssh.way_to(target.parse(pod.ssh), Path(environment["PI_CONFIG_DIR"]))
    try:
        yield link
    finally:
        link.close()


def first_token(link: openssh.Way, environment: dict[str, str], port: int, name: str, message: str) -> None:
    """Time one token for a whole `pi prompt`, and for curl over an open connection."""
    body = json.dumps({"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": message}]})
    ask = [str(PI), "prompt", name, "--no-tools", "--quiet", "--max-tokens", "1", message]
    pairs = []
    with local_port(link, port) as local:
        curl = ["curl", "-s", f"http://127.0.0.1:{local}/v1/chat/completions", "-H", "Content-Type: application/json",
                "-H", f"Authorization: Bearer {environment['PI_API_KEY']}", "-d", body]  # fmt: skip
        for _ in range(ROUNDS):
            pairs.append([measured(command, environment) for command in (ask, curl)])
    over = [ours.wall_s - curls.wall_s for ours, curls in pairs]
    importing = [measured([sys.executable, "-c", "import openai"], environment).wall_s for _ in range(ROUNDS)]
    for who, of in zip(("pi prompt", "curl"), zip(*pairs, strict=True), strict=True):
        walls, cpus = [one.wall_s for one in of], [one.cpu_s for one in of]
        print(f"  {who}: {statistics.median(walls):.2f} s, at best {min(walls):.2f} s; CPU {min(cpus):.2f} s")
    print(f"  over curl: {statistics.median(over):+.2f} s, at best {min(over):+.2f} s (target: at most +0.9 s)")
    print(f"  `import openai` alone: {statistics.median(importing):.2f} s, at best {min(importing):.2f} s")


def streaming_cpu(environment: dict[str, str]) -> None:
    """Print the CPU of a whole `pi prompt` at 200 tokens a second, less that of one token."""
    words: list[str | Path] = [PI, "prompt", CANNED, "--no-tools"]
    pairs = [[measured([*words, str(tokens)], environment).cpu_s for tokens in (TOKENS, 1)] for _ in range(STREAMINGS)]
    spent = statistics.median(long - short for long, short in pairs)
    print(
        f"pi prompt, {TOKENS_PER_S} tokens/s through its tunnel: {spent / TOKENS * 1000:.3f} s of CPU for 1,000 tokens,"
        f" {spent / (TOKENS / TOKENS_PER_S):.1%} of a core (target: at most 5 %)"
    )


@dataclass(frozen=True)
class Measured:
    """The time of one run of a command; `cpu_s` is user and system time."""

    wall_s: float
    cpu_s: float


def measured(command: Sequence[str | Path], environment: dict[str, str]) -> Measured:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measured(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def tunnel(link: openssh.Way, served: int) -> None:
    """Print the throughput of one stream through the tunnel, and of 50 at once."""
    began = time.monotonic()
    got = fetched(link, served, MEGABYTES)
    speed = got / 1e6 / (time.monotonic() - began)
    results: list[int] = []
    began = time.monotonic()
    crowd = [threading.Thread(target=lambda: results.append(fetched(link, served, 1))) for _ in range(50)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    whole = sum(size >= 1e6 for size in results)
    print(
        f"tunnel: {speed:.0f} MB/s (target: 100); 50 streams at once: {whole} whole in {time.monotonic() - began:.1f} s"
    )


def fetched(link: openssh.Way, port: int, megabytes: int) -> int:
    with contextlib.closing(link.dial(port)) as line:
        line.settimeout(60)
        line.sendall(f"GET /{megabytes} HTTP/1.0\r\n\r\n".encode())
        size = 0
        while chunk := line.recv(1 << 18):
            size += len(chunk)
    return size


@contextlib.contextmanager
def local_port(link: openssh.Way, port: int) -> Iterator[int]:
    """Forward a local port to a pod's, for curl, which does not speak SSH."""

    class Carrying(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            line = link.dial(port)
            threading.Thread(target=copy, args=(self.request, line), daemon=True).start()
            copy(line, self.request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Carrying) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def copy(source: Line, sink: Line) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    sink.close()


class Answering(BaseHTTPRequestHandler):
    """GET /N: N megabytes. POST: the number of tokens in the message, 200 a second.

    Streams as vLLM does: an event for each token, each in its own HTTP chunk.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(int(self.path.strip("/"))):
            self.wfile.write(b"x" * 1_000_000)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        began = time.monotonic()
        for number in range(int(request["messages"][-1]["content"])):
            time.sleep(max(0.0, began + number / TOKENS_PER_S - time.monotonic()))
            self._event({"content": "word "}, None)
        self._event({}, "stop")
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "token_ids": None}
        event = {"id": "chatcmpl-7ba9c0a5a4e04b47", "object": "chat.completion.chunk", "created": 1790000000,
                 "model": CANNED, "choices": [choice]}  # fmt: skip
        self._chunk(f"data: {json.dumps(event)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

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
