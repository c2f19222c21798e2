"""The pods behind a head while a model starts: what the first failure does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pi.calls.explain import Ended
from pi.calls.logs import LogEnd
from pi.errors import BusyError, Interrupted, NotReadyError, PiError, UnreachableError
from pi.pods.types import Pod
from pi.steps import ranks
from pi.steps.members import Joined
from pi.steps.ranks import Ranks, goes_on
from pi.vllm.start_facts import StartFacts

NO_CONNECTION: Any = None

B, C = (Joined(Pod(name, "ssh x"), NO_CONNECTION) for name in "bc")


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Ranks run until this is set; then they have exited with a lack of GPU memory."""
    ended, log = threading.Event(), "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"

    def follow(*_: object, **__: object) -> LogEnd:
        ended.wait(30)
        return LogEnd("exited", 1)

    monkeypatch.setattr(ranks, "follow_log", follow)
    monkeypatch.setattr(ranks, "read_ending", lambda *_: Ended("qwen", log, 1, StartFacts(), 0))
    return ended


def started(launch: Callable[[Joined], object], stops: list[str]) -> Ranks:
    made = Ranks("qwen", [B, C], launch, lambda: stops.append("head"))
    made.begin()
    return made


def failed(made: Ranks) -> PiError:
    for _ in range(500):
        if made.failure:
            return made.failure
        time.sleep(0.01)
    raise AssertionError("no rank failed")


def test_ranks_that_run_let_the_start_go_on(ending: threading.Event) -> None:
    stops: list[str] = []
    made = started(lambda member: None, stops)
    made.await_launched()
    made.end()
    ending.set()
    time.sleep(0.1)
    assert made.failure is None and stops == []


def test_the_first_rank_that_ends_stops_the_head_once(ending: threading.Event) -> None:
    stops: list[str] = []
    made = started(lambda member: None, stops)
    made.await_launched()
    ending.set()
    error = failed(made)
    assert isinstance(error, NotReadyError) and error.message.startswith(
        ("qwen did not start: b: ", "qwen did not start: c: ")
    )
    assert "out of memory" in error.message and "pi logs qwen --pod " in (error.hint or "")
    made.cancel()
    assert stops == ["head"]


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (BusyError("name-taken", "qwen is already running, on port 8001"), "c: qwen is already running"),
        (ValueError("odd"), "c: "),
    ],
)
def test_a_rank_that_cannot_be_launched_is_named(raised: Exception, words: str, ending: threading.Event) -> None:
    def launch(member: Joined) -> None:
        if member is C:
            raise raised

    stops: list[str] = []
    made = started(launch, stops)
    with pytest.raises(PiError) as refused:
        made.await_launched()
    assert refused.value.message.startswith(f"qwen did not start: {words}")
    made.cancel()
    assert stops == ["head"]


def test_a_failed_start_launches_no_more_ranks(ending: threading.Event) -> None:
    may_go, launched = threading.Event(), list[str]()

    def launch(member: Joined) -> None:
        may_go.wait(30)
        made.require_wanted()
        launched.append(member.pod.name)

    stops: list[str] = []
    made = Ranks("qwen", [B, C], launch, lambda: stops.append("head"))
    made.begin()
    cancelling = threading.Thread(target=made.cancel)
    cancelling.start()
    time.sleep(0.1)
    may_go.set()
    cancelling.join(30)
    assert launched == [] and made.failure is None and stops == []


def test_only_a_lost_head_goes_on() -> None:
    assert goes_on(UnreachableError("connection-lost", "x")) and goes_on(BrokenPipeError())
    assert not goes_on(NotReadyError("exited", "x")) and not goes_on(Interrupted("interrupted", "x"))
