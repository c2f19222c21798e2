"""`bench` on the pod: what vLLM's own benchmark measured at one level of concurrency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pi.calls.call import Listener, call
from pi.on_pod.bench_shapes import BenchAnswer, BenchRequest, Spread

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

__all__ = ["BenchAnswer", "Spread", "bench"]


def bench(
    connection: Connection, name: str, concurrency: int, requests: int, tokens: tuple[int, int], listen: Listener
) -> BenchAnswer:
    """Send so many requests, `concurrency` at a time, each with `tokens` of input and output."""
    request: BenchRequest = {
        "name": name,
        "concurrency": concurrency,
        "requests": requests,
        "input": tokens[0],
        "output": tokens[1],
    }
    return call(connection, "bench", "bench", request, BenchAnswer, listen)
