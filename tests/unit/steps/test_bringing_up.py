"""`pi up` and `pi down` with replicas on several pods."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from pi.calls.status import Found, Status
from pi.fabric_tasks.start_options import StartOptions
from pi.pods import state
from pi.pods.types import Deployment, Pod, State
from pi.steps import bringing_up, restarting, spread, where
from pi.steps.declared import Declared, Step, is_on, with_parts


def declared(pod: str, name: str, replicas: str | None = None, across: str | None = None) -> Declared:
    return Declared(pod, name, StartOptions(model="org/m", name=name, replicas=replicas, across=across).start())


@pytest.fixture(autouse=True)
def pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas of `m` on `a`, the first pod, and on `b`; no connection is needed."""
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    options = {"model": "org/m", "replicas": "2", "across": "a,b"}
    first, other = Deployment("m", "org/m", 8001, (), 7, options=options), Deployment("m", "org/m", 8001, (), 8)
    known = {"a": Pod("a", "ssh a", models={"m": first}), "b": Pod("b", "ssh b", models={"m": other})}
    state.change(lambda before: State({**known, "c": Pod("c", "ssh c")}))
    monkeypatch.setattr(where, "connected", lambda *_, **__: nullcontext())


def test_replicas_on_several_pods_are_declared_on_each() -> None:
    spread_out, alone = declared("a", "m", replicas="2", across="a,b,x"), declared("a", "n", replicas="2")
    together = declared("a", "k", across="a,b")
    found = with_parts([spread_out, alone, together, declared("b", "m", replicas="1")], ["a", "b"])
    assert [each.place for each in found] == ["a/m", "a/n", "a/k", "b/m"]
    assert [each.place for each in with_parts([spread_out], ["a", "b"])] == ["a/m", "b/m"]


def test_a_model_of_that_name_without_replicas_is_another_one() -> None:
    own = Deployment("m", "org/m", 8001, (), 77)
    alone = Found(own, "running", None, None, None, (), (), 0, ())
    status = replace(Status((), (), (), (), None, None, None, {}, {}, "boot", "boot/1", "m", 9.0), found=(alone,))
    part = declared("b", "m", replicas="2", across="a,b")
    assert is_on(part, status, is_declared=True) and not is_on(part, status, is_declared=False)
    assert is_on(part, replace(status, found=(replace(alone, servers={}),)), is_declared=False)


def test_down_stops_the_replicas_of_all_pods_and_cuts_their_links(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped, cut = list[str](), list[object]()
    monkeypatch.setattr(restarting, "stop", lambda pod, connection, name: stopped.append(f"{pod.name}/{name}"))
    monkeypatch.setattr(spread, "unlink", lambda c, found: cut.append(found))
    models = with_parts([declared("a", "m", replicas="2", across="a,b")], state.load().pods)
    assert bringing_up.take_down(None, [Step(model, "keep", "") for model in models]) == []
    assert stopped == ["a/m", "b/m"] and cut == [{"a": {"m"}, "b": {"m"}}]


@pytest.mark.parametrize(("across", "note"), [("a,c", "m still has replicas on b: pi stop m --pod b\n"), ("a,b", "")])
def test_up_names_the_replicas_that_the_file_has_no_more(
    across: str, note: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(restarting, "require_plan", lambda *_: None)
    monkeypatch.setattr(restarting, "restart", lambda *_: None)
    step = Step(declared("a", "m", replicas="2", across=across), "restart", "across is a,b")
    assert bringing_up.bring_up(None, [step], "k") == []
    assert capsys.readouterr().err == note
