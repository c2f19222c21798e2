"""The user's prices of GPUs: which are read, and where they are shown."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning import catalog, planner, prices
from pi.planning.hardware import by_name
from pi.planning.machines import idle_pod, parse
from pi.planning.offers import MORE, offers
from pi.planning.types import Request

CATALOG = catalog.load()


def test_prices_are_kept_by_kind() -> None:
    kept = prices.read({"RTX 4090": 0.44, "h100": 2, "A100 80GB": 1.19}, "prices.toml")
    assert kept == {"rtx_4090": 0.44, "h100": 2.0, "a100_80gb": 1.19}
    assert prices.per_hour(kept, by_name("rtx_4090"), 2) == 0.88
    assert prices.per_hour(kept, by_name("h200"), 2) is None
    assert prices.per_hour(kept, None, 0) is None


WRONG = [
    ("RTX 4900", 1, "price-of-unknown-gpu", "'RTX 4900'; did you mean RTX 4090"),
    ("A100", 1, "price-of-unknown-gpu", "which 'A100'? A100 80GB or A100 40GB"),
    ("2x RTX 4090", 1, "price-of-unknown-gpu", "did you mean RTX 4090"),
    ("", 1, "price-of-unknown-gpu", "does not name a GPU"),
    ("CPU", 1, "price-of-unknown-gpu", "unknown GPU 'CPU'"),
    *(
        ("RTX 4090", value, "price-invalid", "RTX 4090: invalid price")
        for value in (0, -0.44, math.inf, math.nan, True, "0.44", [0.44], {"price": 1}, 10**400)
    ),
]


@pytest.mark.parametrize(("name", "price", "error_id", "text"), WRONG)
def test_wrong_entry_is_one_line_with_file_and_entry(name: str, price: Any, error_id: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        prices.read({"H200": 3.0, name: price}, "/home/me/.pi/prices.toml")
    line = caught.value.render()
    assert caught.value.id == error_id
    assert line.startswith("pi: /home/me/.pi/prices.toml: ") and text in line and "\n" not in line


def test_a_kind_has_one_price() -> None:
    with pytest.raises(InputError) as caught:
        prices.read({"RTX 4090": 0.44, "4090": 0.5}, "prices.toml")
    assert caught.value.id == "price-twice"


@pytest.mark.parametrize(("price", "text"), [(0.44, "0.44"), (2, "2.00"), (19.918, "19.92"), (0.0123, "0.0123")])
def test_amount(price: float, text: str) -> None:
    assert prices.amount(price) == text


KEPT = {"rtx_4090": 0.44, "h100": 2.49}


def test_refusal_names_the_price_of_larger_machines() -> None:
    facts = idle_pod(parse("RTX 4090"), CATALOG, KEPT)
    with pytest.raises(InputError) as caught:
        planner.plan(Request(ModelId("Qwen/Qwen3-Coder-480B-A35B-Instruct"), "m"), facts, CATALOG)
    assert "4x H100 80GB (9.96 per hour)" in (caught.value.hint or "")


def test_offers_have_the_price_of_their_gpus() -> None:
    [small] = offers(CATALOG, idle_pod(parse("4x RTX 4090"), CATALOG, KEPT), "Qwen3-8B")
    assert 1 <= small.gpus < 4
    assert small.price_per_hour == small.gpus * 0.44
    [unpriced] = offers(CATALOG, idle_pod(parse("1x L40S"), CATALOG, KEPT), "Qwen3-8B")
    assert unpriced.price_per_hour is None
    [large] = offers(CATALOG, None, "Qwen3-Coder-480B", KEPT)
    assert (large.state, large.price_per_hour) == (MORE, None)
    assert "4x H100 80GB (9.96 per hour)" in large.needs
