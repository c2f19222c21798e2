"""Sample several pods at the same time, each over one connection, until the user stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from pi import faults
from pi.calls import top as calls
from pi.calls.top import Sample
from pi.errors import PiError
from pi.pods.types import Pod
from pi.steps import where
from pi.steps.top import History

REDRAW_S = 0.5

RETRY_S = 5
"""Time before pi connects again to a pod that it lost."""

CLOSE_S = 2
"""How long pi waits for its connections to close."""


class _Stopped(Exception):
    """The user stopped; the call ends."""


def watch(
    c: Any, chosen: where.Chosen, interval_s: float, draw: Callable[[Mapping[str, History], Mapping[str, str]], None]
) -> None:
    """Draw what the pods report until Ctrl+C. Raises the error of the only pod if it never answered."""
    histories = {pod.name: History() for pod in chosen.pods}
    errors: dict[str, PiError] = {}
    stopping = threading.Event()

    def take(pod: Pod, sample: Sample) -> None:
        errors.pop(pod.name, None)
        histories[pod.name].add(sample)
        if stopping.is_set():
            raise _Stopped

    def work(pod: Pod) -> None:
        while not stopping.is_set():
            try:
                with where.connected(c, pod, named=chosen.is_named) as connection:
                    calls.sample(connection, lambda sample: take(pod, sample), None, interval_s)
            except _Stopped:
                return
            except PiError as error:
                errors[pod.name] = error
            except Exception as error:
                errors[pod.name] = PiError("pod-fault", faults.describe(error))
            stopping.wait(RETRY_S)

    threads = [threading.Thread(target=work, args=(pod,), daemon=True) for pod in chosen.pods]
    for thread in threads:
        thread.start()
    try:
        while True:
            if len(errors) == len(threads) and not any(history.samples for history in histories.values()):
                raise next(iter(errors.values()))
            draw(histories, {pod: error.render() for pod, error in dict(errors).items()})
            stopping.wait(REDRAW_S)
    finally:
        stopping.set()
        for thread in threads:
            thread.join(CLOSE_S)
