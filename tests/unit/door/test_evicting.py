"""Which models the door stops so that another one fits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pi.door import names
from pi.door.evicting import LEAST_STAY_S, Choice, Evictions
from pi.door.names import Served
from pi.door.rules import Rules
from pi.door.starts import Ended, Starts
from pi.door.uses import Uses
from pi.pods.types import Deployment, Pod, State
from pi.steps.making_room import Room, Tenant
from tests.unit.door.conftest import RULES

OLD_S = 10_000.0


def served(*models: str) -> list[Served]:
    entries = {
        name: Deployment(name, f"org/{name}", 8001, (0,), 7, options={"model": f"org/{name}"}) for name in models
    }
    return names.served(State({"dc1": Pod("dc1", "local", models=entries)}, active="dc1"), {})


def tenant(
    name: str, asked_s_ago: float | None = 600, ready_s: float = OLD_S, requests: int | None = 0, start_s: float = 60
) -> Tenant:
    return Tenant(name, asked_s_ago, ready_s, start_s, requests)


def fits_without(*sets: str) -> Room:
    """Return a room in which a model fits without the models of one of these sets, such as "a b"."""

    def fits(stopped: Sequence[str]) -> bool:
        return any(set(words.split()) <= set(stopped) for words in sets)

    return Room({}, fits)


def choose(room: Room, *tenants: Tenant, running: str = "") -> Choice:
    uses = Uses()

    async def never(model: Served, report: object) -> bool:
        return False

    async def nothing(words: list[str], place: tuple[str, str]) -> Ended:
        return Ended(1, "")

    async def chosen() -> Choice:
        known = Room({each.name: each for each in tenants}, room.fits_without)
        evictions = Evictions(RULES, uses, Starts(never, nothing), list)
        with uses.of(("dc1", running)):
            return evictions.choose(known, served(*known.tenants))

    return asyncio.run(chosen())


@pytest.mark.parametrize(
    ("room", "tenants", "stops"),
    [
        (fits_without("a", "b"), [tenant("a", 60), tenant("b", 600)], ["b"]),
        (fits_without("a", "b"), [tenant("a", None, ready_s=5000), tenant("b", 600)], ["a"]),
        (fits_without("a"), [tenant("a", 60), tenant("b", 600)], ["a"]),
        (fits_without("a b"), [tenant("a", 60), tenant("b", 600), tenant("c", 3)], ["b", "a"]),
        (fits_without("a", "b"), [tenant("a", 60), tenant("b", 600, requests=1)], ["a"]),
        (fits_without("a", "b"), [tenant("a", 60), tenant("b", 600, ready_s=10)], ["a"]),
        (fits_without("a"), [tenant("a", 60, requests=None)], ["a"]),
        (fits_without(""), [tenant("a")], []),
    ],
    ids=["oldest-request", "never-asked", "what-helps", "two", "not-busy", "not-fresh", "unknown-load", "room-now"],
)
def test_the_least_used_models_that_make_room_stop(room: Room, tenants: list[Tenant], stops: list[str]) -> None:
    chosen = choose(room, *tenants)
    assert chosen.stops is not None
    assert [each.deployment.name for each in chosen.stops] == stops


@pytest.mark.parametrize(
    ("tenants", "waits_for"),
    [
        ([tenant("a", requests=2)], "waits until a has no requests"),
        ([tenant("a", ready_s=LEAST_STAY_S - 30)], "waits 30 s more for a, which has just started"),
        (
            [tenant("a", ready_s=LEAST_STAY_S + 1, start_s=LEAST_STAY_S + 40)],
            "waits 39 s more for a, which has just started",
        ),
    ],
)
def test_models_that_are_busy_or_fresh_are_waited_for(tenants: list[Tenant], waits_for: str) -> None:
    assert choose(fits_without("a"), *tenants) == Choice(None, waits_for)


def test_a_request_through_the_door_counts_before_vllm_does() -> None:
    assert choose(fits_without("a"), tenant("a"), running="a") == Choice(None, "waits until a has no requests")


def test_nothing_stops_if_that_makes_no_room() -> None:
    assert choose(fits_without(), tenant("a"), tenant("b")) == Choice(None)


@pytest.mark.parametrize(("pinned", "may"), [((), True), (("a",), False), (("dc1/a",), False), (("dc2/a", "b"), True)])
def test_a_pinned_model_never_stops(pinned: tuple[str, ...], may: bool) -> None:
    [model] = served("a")
    assert Rules(RULES.start_of, pinned=pinned).may_stop(model) is may
