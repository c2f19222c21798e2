"""What the door adds to a direct tunnel: time to the first token, and CPU time for each 1,000 tokens."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.rig.pod import kill, listens, until
from tests.rig.sshd import SshdPod, free_port

PI = Path(sys.executable).parent / "pi"

PAIRS = 60

TOKENS, STREAMS, AT_ONCE = 1000, 16, 8

SERVER = """
import asyncio, json, sys

async def answer(reader, writer):
    while not reader.at_eof():
        try:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
        except asyncio.IncompleteReadError:
            return writer.close()
        length = int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0])
        asked = json.loads(await reader.readexactly(length))
        event = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"word "}}]}\\n\\n'
        piece = b"%x\\r\\n%s\\r\\n" % (len(event), event)
        writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\n")
        writer.write(b"transfer-encoding: chunked\\r\\n\\r\\n")
        for _ in range(asked["max_tokens"]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(asked["pause_s"])
        writer.write(b"0\\r\\n\\r\\n")

async def main():
    async with await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()

asyncio.run(main())
"""
"""A server on the pod: so many tokens, a pause after each."""


@dataclass(frozen=True)
class Way:
    """A way to the server: its local port, its key, and the processes that it takes."""

    port: int
    key: str
    mark: bytes

    def stream(self, tokens: int, pause_s: float = 0.0) -> float:
        """Ask for tokens over a new connection. Returns the seconds to the first one."""
        body = json.dumps({"model": "m", "stream": True, "max_tokens": tokens, "pause_s": pause_s, "messages": []})
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            began = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {self.key}"})
            reply = connection.getresponse()
            reply.readline()
            took = time.perf_counter() - began
            found = reply.read().count(b"data: ") + 1
        if (reply.status, found) != (200, tokens):
            raise RuntimeError(f"status {reply.status}, {found} of {tokens} tokens")
        return took

    def cpu_s(self) -> float:
        """Return the CPU time that its processes, and those that have ended before them, have used."""
        ticks = 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    marked = self.mark in (entry / "environ").read_bytes()
                    fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                except OSError:
                    continue
                ticks += sum(map(int, fields[11:15])) if marked else 0
        return ticks / os.sysconf("SC_CLK_TCK")


def report(folder: Path) -> None:
    """Print the figures, each from pairs: the door, then the tunnel."""
    pod, port = SshdPod(folder / "pod").up(), free_port()
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(port)])
    try:
        with tunnel(pod, port) as direct, door(pod, port, folder / "pi") as through:
            until(lambda: listens(port))
            for way in (direct, through):
                way.stream(1)
            for name, pause_s in (
                ("one request at a time", 0.0),
                ("each after 6 s, on a new connection to the pod", 6.0),
            ):
                latencies(name, direct, through, PAIRS if not pause_s else 5, pause_s)
            cpu = [used_s(way) / (STREAMS * TOKENS / 1000) * 1000 for way in (direct, through)]
            print(f"CPU for 1,000 tokens, {AT_ONCE} streams at once: door {cpu[1]:.1f} ms, tunnel {cpu[0]:.1f} ms\n")
    finally:
        server.kill()
        server.wait()
        pod.down()


def latencies(name: str, direct: Way, through: Way, pairs: int, pause_s: float) -> None:
    found = []
    for _ in range(pairs):
        time.sleep(pause_s)
        found.append((through.stream(4), direct.stream(4)))
    mine, its = (statistics.median(side) * 1000 for side in zip(*found, strict=True))
    added = statistics.median(a - b for a, b in found) * 1000
    print(f"time to the first token, {name}: door {mine:.1f} ms, tunnel {its:.1f} ms, added {added:+.1f} ms")


def used_s(way: Way) -> float:
    """Return the CPU time that streams take on a way."""
    before = way.cpu_s()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: way.stream(TOKENS, 0.002), range(STREAMS)))
    return way.cpu_s() - before


@contextmanager
def tunnel(pod: SshdPod, port: int) -> Iterator[Way]:
    here, mark = free_port(), "PI_BENCH=tunnel"
    words = [*pod.ssh.split(), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-q"]
    running = subprocess.Popen(
        [*words, "-L", f"127.0.0.1:{here}:127.0.0.1:{port}", "sleep 100000"],  # as pi: sshd delays small writes with -N
        env={**os.environ, "PI_BENCH": "tunnel"},
        stdin=subprocess.DEVNULL,
    )
    try:
        until(lambda: listens(here))
        yield Way(here, "", mark.encode())
    finally:
        running.kill()
        running.wait()


@contextmanager
def door(pod: SshdPod, port: int, config: Path) -> Iterator[Way]:
    config.mkdir(mode=0o700)
    model = {"model": "org/m", "port": port, "gpu": "", "pid": 7}
    state = {"version": 1, "pods": {"b": {"ssh": pod.ssh, "gpus": [], "models": {"m": model}}}, "active": "b"}
    (config / "pods.json").write_text(json.dumps(state))
    here = free_port()
    environment = {**os.environ, "PI_CONFIG_DIR": str(config), "PI_API_KEY": "sk-bench-0123456789", "PI_BENCH": "door"}
    running = subprocess.Popen([PI, "door", "--port", str(here)], env=environment, stdout=subprocess.DEVNULL)
    way = None
    try:
        until(lambda: listens(here))
        way = Way(here, (config / "door" / "key").read_text().strip(), b"PI_BENCH=door")
        yield way
    finally:
        kill(running.pid, 15)
        running.wait()
