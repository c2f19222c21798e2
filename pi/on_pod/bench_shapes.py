"""Shapes of the request and the answer of `bench` (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import TypedDict


class BenchRequest(TypedDict):
    """Measure a deployment with requests of `input` and `output` tokens, `concurrency` of them at a time."""

    name: str
    concurrency: int
    requests: int
    input: int
    output: int


class Spread(TypedDict):
    """Percentiles of a time, in milliseconds."""

    p50: float
    p95: float
    p99: float


class BenchAnswer(TypedDict):
    """What `vllm bench serve` measured. `tpot` is the time per output token after the first one."""

    model: str
    vllm_version: str
    completed: int
    failed: int
    duration: float
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft: Spread
    tpot: Spread
    itl: Spread
