"""Shapes of the request and the samples of `top` (see `pi.on_pod.shapes`)."""

from __future__ import annotations

from typing import List, Optional, TypedDict

from pi.on_pod.key_shapes import Key


class TopRequest(TypedDict):
    """How often to take a sample, and how many; without `samples`, until pi ends the call."""

    interval_s: float
    samples: Optional[int]


class Bucket(TypedDict):
    """How many observations of a histogram are at most `le`; None is infinity."""

    le: Optional[float]
    count: float


class Metrics(TypedDict):
    """What vLLM counts since its start, and its present load. Shares are from 0 to 1.

    `ttft` is the time to the first token, `itl` the time between two tokens, both in seconds.
    """

    running: float
    waiting: float
    kv_share: Optional[float]
    prompt_tokens: float
    generation_tokens: float
    prefix_queries: float
    prefix_hits: float
    ttft: List[Bucket]
    itl: List[Bucket]


class _ReplicaOption(TypedDict, total=False):
    """`replica_of` names the endpoint in front of a replica, which has no sample of its own."""

    replica_of: str


class ModelSample(_ReplicaOption):
    """A deployment now; `metrics` is None if its server does not report any."""

    name: str
    state: str
    metrics: Optional[Metrics]


class GpuSample(TypedDict):
    """A GPU now: memory in MiB, use in percent; None for what its driver does not tell."""

    index: int
    used_mib: Optional[float]
    memory_mib: Optional[float]
    use: Optional[float]
    celsius: Optional[float]
    watts: Optional[float]


class Sample(TypedDict):
    """A pod at one moment, by its clock that never goes back. `problem` says what is missing on it."""

    at: float
    models: List[ModelSample]
    gpus: List[GpuSample]
    keys: List[Key]
    problem: Optional[str]


class TopAnswer(TypedDict):
    """How many samples were sent."""

    samples: int
