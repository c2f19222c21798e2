"""Ask pods for their last request, shortly and silently."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from pi import screen
from pi.calls.asked import last_asked_s_ago
from pi.errors import PiError
from pi.pods.types import Pod
from pi.steps import where

PATIENCE_S = 5
"""For all pods together: their user waits at the end of a command."""

LONGEST_S = 10**9
"""A pod that names an older request, or one in the future, has lost its clock."""


def times(pods: Sequence[Pod]) -> Iterator[tuple[Pod, float]]:
    """Yield the pods that answer in time and had a request, with its time in seconds since 1970."""
    answers: queue.SimpleQueue[tuple[Pod, float | None]] = queue.SimpleQueue()

    def ask(pod: Pod) -> None:
        age = None
        with suppress(PiError, OSError), where.connected(None, pod, named=True) as connection:
            age = last_asked_s_ago(connection)
        answers.put((pod, age))

    began = time.monotonic()
    with screen.progress() as line:
        line.run("  asking for the last request", screen.clock_since(began), quiet=True)
        for pod in pods:
            threading.Thread(target=ask, args=(pod,), daemon=True).start()
        for _ in pods:
            with suppress(queue.Empty):
                pod, age = answers.get(timeout=max(0.0, began + PATIENCE_S - time.monotonic()))
                if age is not None and 0 <= age < LONGEST_S:
                    yield pod, time.time() - age
