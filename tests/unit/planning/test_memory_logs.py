"""The memory sum against public start-up logs of vLLM, each with constants fitted without the log's family."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from chores.memory_logs import FIXTURES, Log, fitted, least_squares, left_out, logs, report
from pi.planning.config_reader import read_network
from pi.planning.estimate import loaded_gb, weights_per_gpu_gib
from pi.planning.overhead import FITTED

NEAR, BOLD, PART = 0.05, 0.04, 0.85
"""The room for the KV cache is right within the first part of the GPU's memory in this part of the logs, and in none
larger by the second."""

WEIGHTS = 0.03


def test_room_is_right_without_the_logs_family() -> None:
    found = left_out()
    assert len(found) >= 35
    near = [name for name, bold in found.items() if abs(bold) <= NEAR]
    assert len(near) >= PART * len(found), sorted(found.items(), key=lambda item: item[1])
    assert max(found.values()) <= BOLD, max(found.items(), key=lambda item: item[1])


def test_constants_are_those_of_the_fit() -> None:
    fit = asdict(fitted(logs()))
    assert fit == {name: pytest.approx(value, rel=0.05) for name, value in asdict(FITTED).items()}


def test_unified_memory_is_within_the_same_bounds() -> None:
    """vLLM's budget is the same on a GB10; the host's memory decides what it finds free."""
    unified = [log for log in logs() if log.complete and log.card.unified]
    assert unified
    assert all(-NEAR <= log.boldness() <= BOLD for log in unified), [(log.name, log.boldness()) for log in unified]


def _weighed() -> list[Log]:
    """Logs of a known checkpoint that state the weights themselves."""
    return [
        log
        for log in logs()
        if {"checkpoint_gb", "weights_gib"} <= log.row.keys()
        and "weights (size of the checkpoint)" not in log.row.get("inferred", ())
    ]


@pytest.mark.parametrize("log", _weighed(), ids=lambda log: log.name)
def test_weights_are_those_of_the_checkpoint(log: Log) -> None:
    row = log.row
    checkpoint_gb = row["checkpoint_gb"]
    if row["precision"] == "mxfp4" and row["gpu"] != "RTX 3090":  # vLLM 0.10 did not pad on Ampere
        config = json.loads((FIXTURES / "configs" / f"{row['model'].replace('/', '--')}.json").read_text())
        network = read_network(config)
        assert network is not None
        checkpoint_gb = loaded_gb(checkpoint_gb, "mxfp4", network)
    assert weights_per_gpu_gib(checkpoint_gb, log.split) == pytest.approx(row["weights_gib"], rel=WEIGHTS)


def test_least_squares_find_a_line() -> None:
    rows = [(1.0, float(x)) for x in range(100)]
    assert least_squares(rows, [3 + 2 * x for _, x in rows], (3.0, 2.0)) == pytest.approx([3, 2])
    drawn = least_squares(rows[:1], [5.0], (3.0, 2.0))
    assert 3 < drawn[0] < 5
    assert drawn[1] == 2


def test_report_names_every_complete_log() -> None:
    lines: list[str] = []
    report(lines.append)
    text = "\n".join(lines)
    assert all(log.name in text for log in logs() if log.complete and log.row["platform"] == "cuda")
