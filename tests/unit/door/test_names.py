"""The models that the door serves, and the words that start them."""

from __future__ import annotations

import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pi.door import kept, names, stopped
from pi.door.refusals import Refused
from pi.door.starts import start_words
from pi.pods import file_format
from pi.pods.types import Deployment, Move, Pod, Span, State


def state(*pods: Pod) -> State:
    return State({pod.name: pod for pod in pods}, active=pods[0].name)


def pod(name: str, *models: Deployment) -> Pod:
    return Pod(name, "local", models={model.name: model for model in models})


def model(name: str, **more: Any) -> Deployment:
    return Deployment(name, f"org/{name}", 8001, (0,), 7, **more)


def test_models_that_the_door_stopped_are_served_with_their_adapters() -> None:
    options = {"model": "org/kimi", "lora": ["sql=org/sql", "css=org/css"]}
    found = names.served(state(pod("dc1", model("qwen"))), {"dc1": {"kimi": options}, "gone": {"bge": options}})
    assert [(each.id, each.state) for each in found] == [
        ("qwen", "running"),
        ("kimi", "stopped"),
        ("sql", "stopped"),
        ("css", "stopped"),
    ]
    assert {each.place for each in found[1:]} == {("dc1", "kimi")} and found[2].options == options


def test_what_pods_json_says_counts_more_than_what_the_door_kept() -> None:
    [found] = names.served(state(pod("dc1", model("qwen"))), {"dc1": {"qwen": {"model": "org/old"}}})
    assert (found.state, found.options) == ("running", {})


def test_a_name_on_several_pods_means_one_that_runs_then_the_active_pods() -> None:
    starting = model("qwen", status="starting")
    found = names.served(state(pod("dc1", starting), pod("dc2", model("qwen")), pod("dc3", model("qwen"))), {})
    assert [each.id for each in found] == ["dc1/qwen", "dc2/qwen", "dc3/qwen"]
    assert names.find(found, "qwen").pod.name == "dc2"
    assert names.find(found, "dc1/qwen").state == "starting"
    with pytest.raises(
        Refused, match="no model 'qwen2'; did you mean 'qwen'\\? the door has dc1/qwen, dc2/qwen, dc3/qwen"
    ):
        names.find(found, "qwen2")


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("qwenn", "qwen"),
        ("QWEN", "qwen"),
        ("qwen:latest", "qwen"),
        ("openai/qwen", "org/qwen"),
        ("org/qwem", "org/qwen"),
        ("dc1/qwen:7b", "qwen"),
        ("gpt-5", None),
        ("", None),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(wanted: str, near: str | None) -> None:
    found = names.served(state(pod("dc1", model("qwen")), pod("dc2", model("bge"))), {})
    with pytest.raises(Refused) as refused:
        names.find(found, wanted)
    hint = f"did you mean {near!r}? " if near else ""
    assert refused.value.message == f"no model {wanted!r}; {hint}the door has qwen, bge"


def test_an_error_names_twenty_models_at_most() -> None:
    found = names.served(state(pod("dc1", *(model(f"m{number}") for number in range(25)))), {})
    with pytest.raises(Refused, match=r"m18, m19 and 5 more$"):
        names.find(found, "xyz")


def test_a_declared_model_is_served_and_starts_as_the_file_says() -> None:
    declared: dict[str, dict[str, Any]] = {
        "dc1": {"qwen": {"model": "org/qwen", "context": "8k"}, "bge": {"model": "org/bge"}},
        "gone": {"x": {}},
    }
    running = model("qwen", options={"model": "org/qwen", "context": "4k"})
    found = names.served(state(pod("dc1", running)), {"dc1": {"bge": {"model": "org/old"}}}, declared)
    assert [(each.id, each.state, each.options) for each in found] == [
        ("qwen", "running", {"model": "org/qwen", "context": "8k"}),
        ("bge", "stopped", {"model": "org/bge"}),
    ]


@pytest.mark.parametrize(("is_done", "serves", "leaves"), [(False, "dc1", []), (True, "dc2", [("dc1", "qwen")])])
def test_a_model_that_moves_has_one_name(is_done: bool, serves: str, leaves: list[tuple[str, str]]) -> None:
    now = state(pod("dc1", model("qwen", move=Move("dc2", is_done))), pod("dc2", model("qwen")))
    assert [(each.id, each.pod.name) for each in names.served(now, {})] == [("qwen", serves)]
    assert names.leaving(now) == leaves
    assert file_format.read(file_format.written(now).encode()) == now


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"context": "32k", "gpus": 2}, ["--context=32k", "--gpus=2"]),
        ({"private": True, "text-only": False}, ["--private"]),
        ({"set": ["a=1", "--b=2"]}, ["--set=a=1", "--set=--b=2"]),
        ({"across": "a,b", "address": ["b=10.0.0.7"]}, ["--across=a,b", "--address=b=10.0.0.7", "--yes"]),
        ({"vllm": ["--x", "1"], "timeout": "900"}, ["--timeout=900", "--vllm", "--x", "1"]),
    ],
)
def test_options_become_the_words_of_pi_start(options: dict[str, Any], words: list[str]) -> None:
    found = start_words("qwen", "dc1", {"model": "org/qwen", **options})
    assert found == ["start", "org/qwen", "--name", "qwen", "--pod", "dc1", *words]


def test_stopped_models_are_kept_in_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    assert stopped.load() == {}
    stopped.forget_pod("dc1")
    assert not (tmp_path / "door").exists()
    stopped.keep("dc1", "qwen", {"model": "org/qwen"})
    stopped.keep("dc1", "kimi", {"model": "org/kimi"})
    assert stopped.forget("dc1", "qwen") and not stopped.forget("dc1", "qwen")
    stopped.rename_pod("dc1", "berlin")
    assert stopped.load() == {"berlin": {"kimi": {"model": "org/kimi"}}}
    stopped.forget_pod("berlin")
    assert stopped.load() == {}
    file = tmp_path / "door" / "stopped.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for damaged in ("", "[]", '{"dc1": 7}', '{"dc1": {"qwen": 7}}', '{"dc1": {"qwen": {"model": "a", "lora": 7}}}'):
        file.write_text(damaged)
        assert not any(stopped.load().values())
    file.write_text(json.dumps({"dc1": {"qwen": {"model": "org/qwen"}, "bad": {"model": 7}}}))
    assert stopped.load() == {"dc1": {"qwen": {"model": "org/qwen"}}}


def test_a_damaged_file_of_the_door_means_a_closed_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    assert kept.last() is None
    with kept.claimed("127.0.0.1", 4100) as door:
        assert kept.opened() == door
    assert kept.opened() is None and kept.last() == kept.Door("127.0.0.1", 4100)
    for damaged in ("", "{}", '{"host": "a", "port": 70000, "pid": 7, "started": 1}'):
        (tmp_path / "door" / "door.json").write_text(damaged)
        assert kept.last() is None


def test_processes_that_make_the_key_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(os, "getpid", threading.get_ident)  # as if each thread were a process
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: kept.key(), range(8)))
    assert len(keys) == 1 and [path.name for path in (tmp_path / "door").iterdir()] == ["key"]


def test_a_model_over_several_pods_is_served_once_by_its_head() -> None:
    head, rank = (model("big", span=Span(number, ("a", "b"), group="g")) for number in (0, 1))
    [found] = names.served(state(pod("b", rank), pod("a", head)), {})
    assert (found.id, found.pod.name) == ("big", "a")
