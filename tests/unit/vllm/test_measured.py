"""What vLLM measured, read from the logs of tests/cases/measured and from hostile ones."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import zip_longest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi.vllm.measured import LogReader, Measured, read, room
from tests.rig.cases import CASES, load, names
from tests.unit.vllm.test_log import HOSTILE

FOLDER = CASES / "measured"


@dataclass(frozen=True)
class Case:
    """The keys of a case (tests/cases/measured/README.md)."""

    about: str
    source: str
    log: str
    measured: dict[str, float]


def case(name: str) -> Case:
    return load(Case, FOLDER / f"{name}.toml")


def known(measured: Measured) -> dict[str, float]:
    return {name: value for name, value in asdict(measured).items() if value is not None}


@pytest.mark.parametrize("name", names(FOLDER))
def test_log_gives_the_figures_of_its_case(name: str) -> None:
    figures = read(case(name).log)
    assert known(figures) == case(name).measured
    assert bool(figures) == bool(case(name).measured)


@pytest.mark.parametrize("name", names(FOLDER))
@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_of_a_log_give_the_same_figures(name: str, size: int) -> None:
    reader, log = LogReader(), case(name).log.replace("\n", "\r\n")
    for start in range(0, len(log), size):
        reader.feed(log[start : start + size])
    reader.feed("\n")
    assert reader.measured == read(case(name).log)


@pytest.mark.parametrize(
    ("context", "tokens", "sequences", "words"),
    [
        (131072, 131072, 128, "131072 tokens for one request, about 8 at a time of 16384"),
        (131072, 1_000_000, 16, "131072 tokens for one request, about 16 at a time of 16384"),
        (8192, 35792, None, "8192 tokens for one request, about 4 at a time of 8192"),
        (20000, 24576, 64, "20000 tokens"),
        (8192, 46592, 1, "8192 tokens"),
        (4096, None, None, "4096 tokens"),
    ],
)
def test_room_is_described_by_requests(context: int, tokens: int | None, sequences: int | None, words: str) -> None:
    assert room(context, tokens, sequences) == words


PIECES = [
    "Model loading took 9999999999 GiB memory and 1 seconds",
    "KV cache size: ,,,, tokens",
    "KV cache size: 9" + ",999" * 50 + " tokens",
    "Maximum concurrency for 1 tokens per request: infx",
    "Available KV cache memory: -3.31 GiB",
    "Available KV cache memory: 1.2.3 GiB",
    "Free memory on device (1/0 GiB) on startup. Desired GPU memory utilization is (nan, 0 GiB)",
    "x" * 100_000,
    *HOSTILE,
    *(case(name).log for name in names(FOLDER)),
]


@given(
    st.lists(st.integers(0, len(PIECES) - 1), max_size=8),
    st.lists(st.text(max_size=30)),
    st.sampled_from(["\n", "\r", ""]),
)
@settings(max_examples=100)
def test_any_log_gives_finite_figures(numbers: list[int], texts: list[str], glue: str) -> None:
    pieces = [piece for both in zip_longest((PIECES[n] for n in numbers), texts, fillvalue="") for piece in both]
    assert all(math.isfinite(value) and abs(value) < 2**53 for value in known(read(glue.join(pieces))).values())
