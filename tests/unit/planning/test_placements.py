"""What people run of a model on a pod (tests/fixtures/placements.json), held against pi's plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning import catalog, planner
from pi.planning.types import Request
from tests.pods import pod

FIXTURE = Path(__file__).parents[2] / "fixtures" / "placements.json"
CATALOG = catalog.load()


def _pairs() -> list[Any]:
    """Return the pairs as parameters."""
    pairs = json.loads(FIXTURE.read_text())["pairs"]
    return [
        pytest.param(
            pair,
            id=f"{pair['model'].partition('/')[2]} on {pair['pod']}",
        )
        for pair in pairs
    ]


@pytest.mark.parametrize("pair", _pairs())
def test_plan_is_what_people_run(pair: dict[str, Any]) -> None:
    count, kind = pair["pod"].split("x ")
    request = Request(ModelId(pair["model"]), "m")
    facts = pod(kind, int(count))
    if pair.get("refused"):
        with pytest.raises(InputError):
            planner.plan(request, facts, CATALOG)
        return
    made = planner.plan(request, facts, CATALOG)
    entry = CATALOG.find(made.model)
    assert entry is not None
    assert entry[1].precision in pair["precision"]
    assert len(made.gpus) in pair["gpus"]
