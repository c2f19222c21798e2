"""A pod's word on the pods of a model."""

from __future__ import annotations

import pytest

from pi.calls.records import deployment, span_of
from pi.on_pod.record_shapes import Record
from pi.pods.types import Span


def test_the_pods_of_a_model_are_kept_with_short_ids() -> None:
    assert span_of(1, ["a", "b"], ["m1", "m2", "m3"], "g") == Span(1, ("a", "b"), ("m1", "m2"), "g")
    found = span_of(0, ["a", "b"], ["x" * 10**6, "y\n\x1b[2J"], "g" * 10**6)
    assert found and all(len(each) <= 64 and each.isprintable() for each in (*found.machines, found.group))


@pytest.mark.parametrize(
    ("rank", "members"), [(0, []), (0, ["a"]), (2, ["a", "b"]), (-1, ["a", "b"]), (0, ["a", "b/c"]), (0, ["a"] * 65)]
)
def test_impossible_pods_of_a_model_are_ignored(rank: int, members: list[str]) -> None:
    assert span_of(rank, members, [], "g") is None


def test_other_pods_without_a_name_are_ignored() -> None:
    record: Record = {"name": "m", "model": "o/m", "port": 8001, "gpus": [], "status": "running", "instance": "i"}
    record["elsewhere"] = ["", " ", "../x 10.0.0.7 8001 2", "b 10.0.0.8 8001 2"]
    assert deployment(record).elsewhere == ("b",)
