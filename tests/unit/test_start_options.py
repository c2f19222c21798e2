"""The table of a start's options, as pods.json and pi.toml keep it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pi.errors import InputError
from pi.fabric_tasks import start_options
from pi.fabric_tasks.flags import options_from
from pi.fabric_tasks.start_options import StartOptions

GIVEN: dict[str, Any] = {
    "memory": "45%",
    "context": "32k",
    "gpus": "2",
    "for_throughput": True,
    "lora": ["a=ann/a", "b=/x/b"],
    "set": ["max-num-seqs=64"],
    "env": ["NCCL_DEBUG=INFO"],
    "no_draft": True,
    "private": True,
    "timeout": "900",
    "pod": "box",
    "detach": True,
}


def options(**given: Any) -> StartOptions:
    return options_from(StartOptions, {"model": "ann/m", "name": "m", **given})


SAME = [
    ({"context": "32k"}, {"context": "32768"}),
    ({"memory": "45%"}, {"memory": "0.45"}),
    ({"gpus": 2}, {"gpus": "02"}),
    ({"restart": "on-failure", "stop-after-idle": "120m"}, {"restart": "on-failure:3", "stop-after-idle": "2h"}),
    ({"timeout": 900}, {}),
    ({"set": []}, {"private": False}),
]

OTHER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"context": "32k"}, {"context": "32000"}),
    ({}, {"private": True}),
    ({"stop-after-idle": "2h"}, {"stop-after-idle": "2h", "on-idle": "stop-pod"}),
    ({"contxt": "32k"}, {"context": "32k"}),
]


@pytest.mark.parametrize(
    ("runs", "declared", "is_same"), [*((*pair, True) for pair in SAME), *((*pair, False) for pair in OTHER)]
)
def test_other_words_for_the_same_start_need_no_restart(
    runs: dict[str, Any], declared: dict[str, Any], is_same: bool
) -> None:
    start = start_options.read_options("m", {"model": "ann/m", **declared}).start()
    assert start_options.describes("m", {"model": "ann/m", **runs}, start) is is_same


@pytest.mark.parametrize("given", [{}, GIVEN, {"vllm": ["--max-model-len", "8192", "--trust-remote-code"]}])
def test_a_table_describes_the_same_start(given: dict[str, Any]) -> None:
    table = json.loads(json.dumps(options(**given).table()))
    assert not {"pod", "name", "detach", "dry-run"} & set(table)
    assert start_options.mistakes("m", table) == []
    again = start_options.options_of("m", table)
    assert again.named_request() == options(**given).named_request()
    assert (again.private, again.timeout, again.table()) == (options(**given).private, given.get("timeout"), table)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "model: write text"),
    "an unknown key": ({"contxt": "32k"}, "unknown key contxt; did you mean context?"),
    "a flag of one call": ({"detach": True}, "unknown key detach"),
    "a number for a text": ({"context": 32}, "context: write context = "),
    "true for a number": ({"gpus": True}, "gpus: write gpus = 2"),
    "text for a switch": ({"private": "yes"}, "private: write private = true"),
    "text for a list": ({"set": "a=1"}, "set: write set = "),
    "a list of numbers": ({"lora": [1]}, "lora: write lora = "),
    "a value that the flag refuses": ({"memory": "400%"}, "memory"),
    "two that exclude each other": ({"draft": True, "no-draft": True}, "--draft"),
    "a secret variable": ({"env": ["HF_TOKEN=x"]}, "HF_TOKEN"),
}


@pytest.mark.parametrize(("wrong", "said"), MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_names_its_key(wrong: dict[str, Any], said: str) -> None:
    [found] = start_options.mistakes("m", {"model": "ann/m", **wrong})
    assert said in found
    with pytest.raises(InputError, match=r"the options of m in pods\.json cannot be used"):
        start_options.options_of("m", {"model": "ann/m", **wrong})


def test_options_with_a_secret_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_API_KEY", "sk-0123456789abcdef")
    assert options(set=["served-model-name=sk-0123456789abcdef"]).table() == {}


@pytest.mark.parametrize(
    ("given", "id", "words"),
    [
        ({"across": "a"}, "across-invalid", "name 2 to 16 pods"),
        ({"across": "a,a"}, "across-invalid", "invalid --across"),
        ({"across": "a,b/c"}, "name-invalid", "invalid pod name"),
        ({"across": "a,b", "replicas": "2", "slow_network": True}, "flags-conflict", "--replicas and --slow-network"),
        ({"across": "a,b", "restart": "on-failure"}, "flags-conflict", "all pods start again together"),
        ({"across": "a,b", "for_throughput": True}, "flags-conflict", "--for-throughput"),
        ({"across": "a,b", "vllm": ["--x"]}, "flags-conflict", "--vllm"),
        (
            {"across": "a,b", "stop_after_idle": "1h", "on_idle": "stop-pod"},
            "flags-conflict",
            "it would stop one pod of several",
        ),
        ({"across": "a,b", "address": ["b=10.0.0"]}, "address-invalid", "such as b=10.0.0.7"),
        ({"across": "a,b", "address": ["b=fe80::1%eth0"]}, "address-invalid", "invalid --address 'b=fe80::1%eth0'"),
        ({"across": "a,b", "address": ["b=10.0.0.1", "b=10.0.0.2"]}, "address-twice", "two --address for b"),
        ({"across": "a,b", "address": ["c=10.0.0.1"]}, "address-invalid", "--address names 'c'"),
        ({"address": ["b=10.0.0.1"]}, "flag-requires", "--address requires --across"),
    ],
)
def test_pods_of_one_model_exclude_what_means_nothing_for_them(given: dict[str, Any], id: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        options(**given).start()
    assert raised.value.id == id and words in f"{raised.value.message}; {raised.value.hint}"


def test_pods_of_one_model_are_kept_with_their_addresses() -> None:
    given = options(across="a,b", address=["b=10.0.0.7"], insecure_public=True, yes=True)
    again = start_options.options_of("m", given.table()).start()
    assert again.across == given.start().across and "yes" not in given.table()
    assert again.across and again.across.addresses == {"b": "10.0.0.7"} and again.across.insecure_public
