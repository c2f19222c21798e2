"""Stop a model that spans pods: which pods stop what, and which entries of pods.json go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invoke import Context, Exit

from pi.calls.status import Found, Status
from pi.calls.stop import Stopped
from pi.errors import BusyError, PiError, UnreachableError
from pi.fabric_tasks.stop import stop
from pi.pods import state
from pi.pods.types import Deployment, Pod, Span, State
from pi.steps import spending, stop_several, stop_together, where

NOTHING = Status((), (), (), (), None, None, None, {}, {}, "boot", "boot/1", "m", 9.0)


class Pods:
    """Pods with the model `qwen`, by the group of each part; "" for a model on one pod, None for no model."""

    def __init__(self, **groups: str | None) -> None:
        self.groups = groups
        self.stopped: list[str] = []
        self.cut: set[str] = set()

    @contextlib.contextmanager
    def connected(self, c: Any, pod: Pod, **_: object) -> Iterator[str]:
        if pod.name in self.cut:
            raise UnreachableError("unreachable", f"cannot reach pod {pod.name!r}")
        yield pod.name

    def status(self, pod: str) -> Status:
        found = Found(model(self.span(pod)), "running", None, None, None, (), (), 0, ())
        return replace(NOTHING, found=(found,)) if self.runs(pod) else NOTHING

    def runs(self, pod: str) -> bool:
        return self.groups[pod] is not None and pod not in self.stopped

    def span(self, pod: str) -> Span | None:
        members = tuple(each for each, group in self.groups.items() if group == self.groups[pod])
        return Span(members.index(pod), members, (), self.groups[pod] or "") if self.groups[pod] else None

    def stop(self, pod: str, names: list[str], *_: object) -> tuple[Stopped, ...]:
        if not self.runs(pod):
            return (Stopped("qwen", "nothing", None, True, ()),)
        self.stopped.append(pod)
        return (Stopped("qwen", "running", None, True, (), self.span(pod)),)


def model(span: Span | None) -> Deployment:
    return Deployment("qwen", "a/b", 8001, (), 77, span=span)


def saved(group: str, *names: str) -> None:
    pods = {name: Pod(name, f"ssh {name}") for name in "abc"}
    for rank, name in enumerate(names):
        pods[name] = pods[name].with_model(model(Span(rank, names, (), group)))
    state.change(lambda before: State(pods, "a"))


def left() -> list[str]:
    return [name for name, pod in state.load().pods.items() if pod.models]


@pytest.fixture
def pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pods:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    made = Pods()
    monkeypatch.setattr(where, "connected", made.connected)
    monkeypatch.setattr(spending, "note_empty", lambda names: None)
    monkeypatch.setattr(stop_together, "read_status", made.status)
    monkeypatch.setattr(stop_several, "running", lambda pod: ["qwen"] if made.runs(pod) else [])
    for module in (stop_together, stop_several):
        monkeypatch.setattr(module, "stop_models", made.stop)
    return made


def everywhere(name: str) -> bool:
    pod = state.load().pod(name)
    span = pod.models["qwen"].span
    assert span
    return stop_together.stop_everywhere(None, pod, "qwen", span)


@pytest.mark.parametrize("now", [("a", "b"), ("a", "c"), ("a", "b", "c")])
def test_a_model_that_another_laptop_restarted_stops_where_it_runs(pods: Pods, now: tuple[str, ...]) -> None:
    pods.groups = {name: "second" if name in now else None for name in "abc"}
    saved("first", "a", "b")
    assert everywhere("a")
    assert sorted(pods.stopped) == list(now) and "a" not in left()


def test_a_model_that_has_one_pod_now_is_left_to_the_usual_stop(pods: Pods) -> None:
    pods.groups = {"a": "", "b": None, "c": None}
    saved("first", "a", "b")
    assert not everywhere("a")
    assert pods.stopped == [] and left() == ["a", "b"]


def test_a_stop_that_stops_nothing_fails_and_forgets_nothing(pods: Pods) -> None:
    pods.groups = {"a": "second", "b": "second", "c": None}
    pods.cut = {"a"}
    saved("first", "a", "b")
    with pytest.raises(UnreachableError):
        everywhere("a")
    assert pods.stopped == [] and left() == ["a", "b"]


def test_a_model_that_changes_during_the_stop_is_kept(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    pods.groups = {"a": "first", "b": "first", "c": None}
    saved("first", "a", "b")
    monkeypatch.setattr(stop_together, "stop_part", lambda *_: ())
    with pytest.raises(BusyError, match="qwen was started again meanwhile"):
        everywhere("a")
    assert left() == ["a", "b"]


def test_a_pod_out_of_reach_keeps_its_entry(pods: Pods, capsys: pytest.CaptureFixture[str]) -> None:
    pods.groups = {"a": "first", "b": "first", "c": None}
    pods.cut = {"b"}
    saved("first", "a", "b")
    assert everywhere("a")
    assert pods.stopped == ["a"] and left() == ["b"]
    assert "cannot reach pod 'b'; the part of qwen there ends by itself" in capsys.readouterr().err


@pytest.mark.parametrize("name", [None, "qwen"])
def test_a_stop_on_some_pods_of_a_model_stops_the_others(pods: Pods, name: str | None) -> None:
    pods.groups = dict.fromkeys("abc", "first")
    saved("first", "a", "b", "c")
    stop(Context(), name=name, pod="a,b", yes=True)
    assert sorted(pods.stopped) == ["a", "b", "c"] and left() == []


def test_a_part_that_cannot_be_stopped_fails_the_stop(
    pods: Pods, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pods.groups = dict.fromkeys("abc", "first")
    saved("first", "a", "b", "c")

    def fail(*_: object) -> tuple[Stopped, ...]:
        raise PiError("unkillable", "cannot stop qwen")

    monkeypatch.setattr(stop_together, "stop_part", fail)
    with pytest.raises(Exit, match="1 of 3 pods failed: c"):
        stop(Context(), name="qwen", pod="a,b", yes=True)
    assert left() == ["c"] and "cannot stop qwen" in capsys.readouterr().err
