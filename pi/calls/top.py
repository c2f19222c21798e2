"""`top` on the pod: samples of its models and GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pi.calls.call import call
from pi.calls.events import Event, Sampled
from pi.on_pod.key_shapes import Key
from pi.on_pod.top_shapes import Bucket, GpuSample, Metrics, ModelSample, Sample, TopAnswer, TopRequest

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

__all__ = ["Bucket", "GpuSample", "Key", "Metrics", "ModelSample", "Sample", "sample"]


def sample(connection: Connection, take: Callable[[Sample], None], samples: int | None, interval_s: float = 1) -> None:
    """Pass on samples of a pod: so many, or without a number until the call is interrupted or `take` raises."""
    request: TopRequest = {"interval_s": interval_s, "samples": samples}

    def listen(event: Event) -> None:
        if isinstance(event, Sampled):
            take(event.sample)

    call(connection, "top", "top", request, TopAnswer, listen)
