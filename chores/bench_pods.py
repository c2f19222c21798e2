"""`pi list --all-pods` over many sshd pods of this machine, and a tunnel under 50 streams.

The pods share this machine's cores with pi, so next to the wall time stands the CPU time of pi and its ssh alone.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.rig.sshd import SshdPod, free_port

PI = Path(sys.executable).parent / "pi"
COUNTS = (1, 10, 50)
ROUNDS = 5
STREAMS = 50
STREAM_BYTES = 4 << 20


def report(environment: dict[str, str]) -> None:
    """Print the figures; they need no model."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**environment, "PI_CONFIG_DIR": f"{folder}/config"}
        pods = [SshdPod(Path(folder) / f"pod{number}").up() for number in range(max(COUNTS))]
        try:
            one_s = 0.0
            for count in COUNTS:
                one_s = listing(pods[:count], environment, one_s)
            tunnelled(pods[0], environment)
        finally:
            for pod in pods:
                pod.down()
    print()


def listing(pods: list[SshdPod], environment: dict[str, str], one_s: float) -> float:
    """Time `pi list --all-pods` over warm connections. Returns the time of one pod."""
    remember(pods, environment)
    timed(environment)
    runs = [timed(environment) for _ in range(ROUNDS)]
    wall_s, cpu_s = (statistics.median(side) for side in zip(*runs, strict=True))
    target = f" (target: {2 * one_s + 1:.2f} s)" if len(pods) == max(COUNTS) else ""
    print(f"pi list --all-pods, {len(pods)} pod(s): {wall_s:.2f} s{target}, {cpu_s:.2f} s of CPU here")
    return one_s or wall_s


def timed(environment: dict[str, str]) -> tuple[float, float]:
    """Return wall and CPU seconds of one run."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([PI, "list", "--all-pods"], env=environment, check=True, capture_output=True)
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def remember(pods: list[SshdPod], environment: dict[str, str], port: int | None = None) -> None:
    """Write pods.json; with a port, the first pod has a model there."""
    model: dict[str, object] = {"model": "m", "port": port, "gpus": [], "pid": os.getpid(), "status": "running"}
    entries = {
        f"pod{number}": {"ssh": pod.ssh, "gpus": [], "models": {"bench": model} if port else {}}
        for number, pod in enumerate(pods)
    }
    folder = Path(environment["PI_CONFIG_DIR"])
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "pods.json").write_text(json.dumps({"pods": entries, "active": "pod0"}))


def tunnelled(pod: SshdPod, environment: dict[str, str]) -> None:
    """Read many streams at once, through a tunnel and without one."""
    with streaming() as port:
        remember([pod], environment, port)
        local = free_port()
        words = [str(PI), "tunnel", "bench", "--port", str(local), "--background"]
        subprocess.run(words, env=environment, check=True, capture_output=True)
        try:
            through, direct = read_s(local), read_s(port)
        finally:
            subprocess.run([PI, "tunnel", "--close"], env=environment, capture_output=True)
    size = STREAMS * STREAM_BYTES >> 20
    print(f"{STREAMS} streams at once, {size} MiB: {through:.2f} s through pi tunnel, {direct:.2f} s without")


def read_s(port: int) -> float:
    """Return the seconds until all streams of a port were read whole. Raises OSError for a broken one."""

    def read(_: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            left = STREAM_BYTES
            while left and (piece := connection.recv(1 << 16)):
                left -= len(piece)
            if left:
                raise OSError(f"a stream ended {left} bytes early")

    began = time.monotonic()
    with ThreadPoolExecutor(STREAMS) as pool:
        list(pool.map(read, range(STREAMS)))
    return time.monotonic() - began


@contextmanager
def streaming() -> Iterator[int]:
    """Serve a stream to each connection. Yields the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * STREAMS) as server:

        def accept() -> None:
            while True:
                try:
                    link = server.accept()[0]
                except OSError:
                    return
                threading.Thread(target=send, args=(link,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


def send(link: socket.socket) -> None:
    with link, suppress(OSError):  # pi tries the port, too
        link.sendall(bytes(STREAM_BYTES))
