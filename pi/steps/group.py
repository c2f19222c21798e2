"""Ask several pods the same thing, all at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pi import faults, screen
from pi.errors import PiError, RemoteError
from pi.pods.types import Pod
from pi.steps import where

if TYPE_CHECKING:
    from pi.ssh.connection import Connection
    from pi.steps.json_shapes import ErrorJson

AT_ONCE = 32
"""Pods that are asked at the same time; each needs a process here."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Asked(Generic[Answer]):
    """What a pod answered, or why it did not."""

    pod: Pod
    answer: Answer | None = None
    error: PiError | None = None


def ask(
    c: Any,
    chosen: where.Chosen,
    question: Callable[[Pod, Connection], Answer],
    meanwhile: Callable[[], object] = lambda: None,
) -> list[Asked[Answer]]:
    """Connect to each pod, ask it, and return the answers in the order of the pods.

    A dead pod delays no other one. One pod is asked in this thread; Ctrl+C ends the wait for several. `meanwhile` is
    called during the wait for each pod's connection.
    """

    def one(pod: Pod) -> Asked[Answer]:
        try:
            with where.connected(c, pod, named=chosen.is_named, meanwhile=meanwhile) as connection:
                return Asked(pod, question(pod, connection))
        except PiError as error:
            return Asked(pod, error=error)

    return at_once(chosen.pods, one)


def at_once(pods: Sequence[Pod], one: Callable[[Pod], Asked[Answer]]) -> list[Asked[Answer]]:
    """Return what a function returns for each pod, in their order. See `ask`."""
    if len(pods) == 1:
        return [one(pods[0])]
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    found: dict[int, Asked[Answer]] = {}
    for place in range(len(pods)):
        waiting.put(place)

    def work() -> None:
        with suppress(queue.Empty):
            while True:
                place = waiting.get_nowait()
                pod = pods[place]
                try:
                    found[place] = one(pod)
                except Exception as error:
                    found[place] = Asked(pod, error=RemoteError("pod-fault", faults.describe(error)))
                done.put(place)

    for _ in range(min(AT_ONCE, len(pods))):
        threading.Thread(target=work, daemon=True).start()  # Ctrl+C does not wait for it
    for _ in pods:
        done.get()
    return [found[place] for place in range(len(pods))]


def raise_failed(asked: Sequence[Asked[Answer]], pods: int | None = None) -> None:
    """Raise the error of the only pod. For several (`pods`), print each error and raise RemoteError with the sum."""
    failed, pods = [each for each in asked if each.error], pods or len(asked)
    if pods == 1 and failed and failed[0].error:
        raise failed[0].error
    for each in failed:
        if each.error:
            screen.note(each.error.render())
    if failed:
        names = ", ".join(each.pod.name for each in failed)
        raise RemoteError("pods-failed", f"{len(failed)} of {pods} pods failed: {names}")


def one_or_all(asked: Sequence[Asked[Answer]], key: str, document: Callable[[Pod, Answer], object]) -> object:
    """Return the JSON of the only pod, or that of several: each with its error and its document under `key`."""
    found = [None if each.answer is None else document(each.pod, each.answer) for each in asked]
    if len(asked) == 1:
        return found[0]
    pairs = zip(asked, found, strict=True)
    return {"pods": [{"pod": each.pod.name, "error": error_json(each.error), key: one} for each, one in pairs]}


def error_json(error: PiError | None) -> ErrorJson | None:
    if error is None:
        return None
    return {"id": error.id, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
