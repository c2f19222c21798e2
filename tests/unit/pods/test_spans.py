"""Which pods of pods.json serve a model together."""

from __future__ import annotations

from dataclasses import replace

from pi.pods import file_format
from pi.pods.spans import head_of, pods_of, with_own_names
from pi.pods.types import Deployment, Pod, Span, State

SPAN = Span(1, ("a", "b"), ("m1", "m2"), "g1")

MODEL = Deployment("qwen", "o/m", 8001, (0,), 77, span=SPAN)


def state(*pods: Pod) -> State:
    return State({pod.name: pod for pod in pods})


def pod(name: str, machine: str = "", model: Deployment | None = None) -> Pod:
    return Pod(name, "ssh x", machine=machine, models={model.name: model} if model else {})


def test_pods_are_found_by_machine_and_else_by_name() -> None:
    renamed = state(pod("first", "m1"), pod("second", "m2"))
    assert {name: each and each.name for name, each in pods_of(renamed, "second", SPAN).items()} == {
        "a": "first",
        "b": "second",
    }
    assert head_of(renamed, "second", SPAN) == "first"
    old = state(pod("a"), pod("b"))
    assert pods_of(old, "b", SPAN)["a"] == old.pods["a"]
    other = state(pod("a", "m9"), pod("b", "m2"))
    assert pods_of(other, "b", SPAN)["a"] is None and head_of(other, "b", SPAN) == "a"


def test_another_pi_calls_the_pods_by_its_own_names() -> None:
    renamed = state(pod("first", "m1"), pod("second", "m2"))
    span = with_own_names(renamed, "second", MODEL).span
    assert span and (span.members, span.head, span.group) == (("first", "second"), "first", "g1")
    assert with_own_names(state(pod("a", "m9"), pod("b", "m2")), "b", MODEL) == MODEL
    plain = replace(MODEL, span=None)
    assert with_own_names(renamed, "second", plain) == plain


def test_pods_json_keeps_the_pods_of_a_model() -> None:
    saved = state(pod("b", "m2", MODEL))
    assert file_format.read(file_format.written(saved).encode()) == saved
    assert MODEL.is_part and not replace(MODEL, span=replace(SPAN, rank=0)).is_part


def test_a_renamed_pod_has_its_new_name_in_the_options_of_models() -> None:
    options = {"model": "o/m", "across": "a, b", "address": ["b=10.0.0.2", "a=10.0.0.1"], "name": "b"}
    plain = replace(MODEL, name="plain", options={"model": "b"})
    before = state(pod("a", model=replace(MODEL, options=options)), pod("b", model=plain))
    after = before.with_name("b", "berlin")
    kept = {**options, "across": "a,berlin", "address": ["berlin=10.0.0.2", "a=10.0.0.1"]}
    assert list(after.pods) == ["a", "berlin"] and after.pods["a"].models["qwen"].options == kept
    assert after.pods["berlin"].models["plain"] == plain
