"""What two pods found of the line between them."""

from __future__ import annotations

from typing import Any

import pytest

from pi.calls import network
from pi.calls.network import Line, Passage
from pi.calls.validation import WrongAnswerError

REACHED: Any = {"problem": None, "round_trip_ms": 0.2}

HEARD: Any = {"problem": None, "seen_from": "10.0.0.5", "bytes_per_s": 1_250_000_000}

PASSAGES = {
    "all is well": (REACHED, HEARD, Passage(None, 0.2, 10)),
    "the connection failed": ({**REACHED, "problem": "no route\n"}, HEARD, Passage("no route")),
    "nothing arrived": (REACHED, {**HEARD, "problem": "nobody came"}, Passage("nobody came")),
    "an address is translated": (
        REACHED,
        {**HEARD, "seen_from": "172.17.0.1"},
        Passage("its address arrives as 172.17.0.1 instead of 10.0.0.5: the network between them translates it"),
    ),
}


@pytest.mark.parametrize(("reached", "heard", "expected"), PASSAGES.values(), ids=PASSAGES)
def test_a_passage_if(reached: Any, heard: Any, expected: Passage) -> None:
    assert network.passage_of(reached, heard, "10.0.0.5") == expected


def test_a_line_is_as_slow_as_its_slower_direction() -> None:
    line = Line(Passage(None, 0.2, 9), Passage(None, 0.3, 12))
    assert (line.problem, line.round_trip_ms, line.gbit_per_s) == (None, 0.3, 9)
    assert Line(Passage(None, 0.2, 9), Passage("cut")).problem == "cut"


@pytest.mark.parametrize(
    "wrong", [{"address": "10.0.0.5; rm"}, {"address": "fe80::1%a b"}, {"address": "b"}, {"interface": "eth0 $(id)"}]
)
def test_an_address_that_is_not_one_is_rejected(wrong: dict[str, str]) -> None:
    found: Any = {"address": "10.0.0.5", "interface": "eth0", "network": "", **wrong}
    with pytest.raises(WrongAnswerError):
        network._address(found)
