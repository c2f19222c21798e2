"""`pi list` of several pods: one model over several of them is one, with its ranks below its head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pi.calls.status import Found, Status
from pi.pods.types import Deployment, Pod, Span
from pi.steps import listing
from pi.steps.group import Asked
from pi.steps.listing import Seen


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))


def asked(pod: str, *found: Found) -> Asked[Seen]:
    status = Status(found, (), (), (), None, None, None, {}, {}, "boot", "boot/1", "m", 9.0)
    return Asked(Pod(pod, "ssh x"), Seen(status, "192.0.2.1"))


def part(rank: int, group: str = "g") -> Found:
    span = Span(rank, ("a", "b", "c"), group=group)
    return Found(Deployment("big", "o/m", 8001, (0, 1), 77, span=span), "running", None, None, None, (), (), 0, ())


def test_ranks_are_listed_below_their_head() -> None:
    other = replace(part(0), deployment=Deployment("qwen", "o/q", 8002, (), 78))
    lines = listing.lines([asked("c", part(2)), asked("a", part(0), other), asked("b", part(1))])
    rows = [line.split()[:3] for line in lines[0].splitlines()]
    assert rows[1:] == [["a", "big", "o/m"], ["b", "├", "big"], ["c", "└", "big"], ["a", "qwen", "o/q"]]
    assert "  a/big: running; over a, b and c" in lines
    assert "  c/big: running; rank 2 of big, whose head is a" in lines


def test_a_rank_without_its_head_stands_alone() -> None:
    lines = listing.lines([asked("a", part(0, "g2")), asked("b", part(1))])
    assert [line.split()[:2] for line in lines[0].splitlines()[1:]] == [["a", "big"], ["b", "big"]]
    [document] = listing.as_json([asked("b", part(1))])["pods"]
    [model] = document["models"]
    assert (model["rank"], model["pods"], model["url"]) == (1, ["a", "b", "c"], None)


def test_a_model_without_its_firewall_says_so() -> None:
    [_, sentence, *_] = listing.lines([asked("a", replace(part(0), unguarded=True))])
    assert "NOT PROTECTED: its firewall rules are gone" in sentence
