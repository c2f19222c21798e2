"""A start over several pods that fails or is interrupted: what it stops, and what pods.json keeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pi.calls.events import Launched
from pi.calls.explain import Ended
from pi.calls.logs import LogEnd
from pi.calls.span import Member
from pi.calls.start import Started
from pi.errors import Interrupted, NotReadyError, UnreachableError
from pi.model_id import ModelId
from pi.planning import spanning
from pi.planning.serve import Rank
from pi.planning.types import LaunchPlan, Request
from pi.pods import state
from pi.pods.types import Deployment, Pod, Span, State
from pi.steps import ranks, together
from pi.steps.agreeing import Agreed
from pi.steps.members import Joined
from pi.steps.ranks import Ranks
from pi.steps.starting import Start
from pi.vllm.arguments import Arguments
from pi.vllm.start_facts import StartFacts
from tests.pods import cpu_pod

GROUP = "d81ea378b66584d1"

PLAN = LaunchPlan(ModelId("a/b"), "qwen", served_names=("qwen",), port=8001, gpus=(), args=Arguments(), env={})

WANTED = Start(Request(PLAN.model, "qwen"))


class Pods:
    """Pods `a` and `b`, with `qwen` over both. `head` is what the head does when its server is launched."""

    def __init__(self) -> None:
        self.head: Callable[[], object] = lambda: None
        self.rank_ends = threading.Event()
        self.stopped: list[str] = []
        self.cut: set[str] = set()

    def start(self, pod: str, *, decide: Any, listen: Any, member: Member, **_: object) -> Started:
        decide(cpu_pod())
        if member.span.rank == 0:
            self.head()
            listen(Launched(77, 8001))
        return Started(Deployment("qwen", "a/b", 8001, (), 77, span=member.span), {}, ())

    def stop(self, pod: str, name: str, group: str) -> None:
        assert (name, group) == ("qwen", GROUP)
        self.stopped.append(pod)
        if pod in self.cut:
            raise UnreachableError("unreachable", f"cannot reach pod {pod!r}")

    def lose_the_rank(self) -> None:
        """Return when the rank has ended, and the head is asked to stop."""
        self.rank_ends.set()
        for _ in range(500):
            if self.stopped:
                return
            time.sleep(0.01)
        raise AssertionError("nobody noticed the end of the rank")

    def follow(self, *_: object, **__: object) -> LogEnd:
        self.rank_ends.wait(30)
        return LogEnd("exited", 1)


@pytest.fixture
def pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pods]:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    state.change(lambda before: State({name: Pod(name, f"ssh {name}") for name in "ab"}, "a"))
    made, others = Pods(), set(threading.enumerate())
    monkeypatch.setattr(together, "start_model", made.start)
    monkeypatch.setattr(together, "stop_part", made.stop)
    monkeypatch.setattr(spanning, "again", lambda *_: PLAN)
    monkeypatch.setattr(ranks, "follow_log", made.follow)
    monkeypatch.setattr(ranks, "read_ending", lambda *_: Ended("qwen", "", 1, StartFacts(), 0))
    yield made
    made.rank_ends.set()
    for thread in set(threading.enumerate()) - others:
        thread.join(30)


def started() -> Started | None:
    names: tuple[Any, ...] = ("a", "b")
    span, rank = Span(0, names, (), GROUP), Rank(0, ("10.0.0.6", "10.0.0.7"), "eth1", 29500)
    parts = {pod: Member(replace(span, rank=n), replace(rank, number=n), False) for n, pod in enumerate(names)}
    members = tuple(Joined(state.load().pod(pod), pod) for pod in names)
    agreed = Agreed(members, WANTED.request, dict.fromkeys(names, cpu_pod()), dict.fromkeys(names, PLAN), {}, parts, ())
    return together._started(agreed, WANTED, "key")


def left() -> dict[str, str]:
    return {name: model.status for name, pod in state.load().pods.items() for model in pod.models.values()}


def test_a_rank_that_ends_just_before_the_head_is_ready_fails_the_start(
    pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranks, "await_launched", lambda made: pods.lose_the_rank())
    with pytest.raises(NotReadyError) as raised:
        started()
    assert raised.value.message.startswith("qwen did not start: b: ")
    assert set(pods.stopped) == {"a", "b"} and left() == {}


def test_a_head_that_cannot_be_stopped_stays_in_pods_json(pods: Pods, capsys: pytest.CaptureFixture[str]) -> None:
    pods.cut, pods.head = {"a"}, pods.lose_the_rank
    with pytest.raises(NotReadyError):
        started()
    assert left() == {"a": "starting"} and state.load().pod("a").models["qwen"].owner is None
    assert "cannot stop qwen on a: cannot reach pod 'a'; later: pi stop qwen --pod a\n" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["cancel", "each"])
def test_a_second_interrupt_leaves_what_a_stop_needs(
    where: str, pods: Pods, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupt_first() -> None:
        raise Interrupted("interrupted", "interrupted")

    pods.head = interrupt_first
    monkeypatch.setattr(Ranks if where == "cancel" else together, where, interrupt)
    with pytest.raises(Interrupted) as raised:
        started()
    assert raised.value.hint is None
    assert left()["a"] == "starting" and state.load().pod("a").models["qwen"].span
    assert "parts of qwen may still run; to stop them: pi stop qwen --pod a\n" in capsys.readouterr().err
