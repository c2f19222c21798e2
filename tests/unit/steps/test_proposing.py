"""The refusal of a model that is too large names pods that could take it together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning import catalog, planner
from pi.planning.types import Request
from pi.pods import state
from pi.pods.types import Pod, State
from pi.steps.proposing import with_proposal
from tests import pods

FACTS = pods.pod("h100", 8)

REQUEST = Request(ModelId("moonshotai/Kimi-K2-Instruct"), "kimi")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))


def refused(*others: Pod) -> InputError:
    """Return the refusal on the pod `a` with these other pods in pods.json."""
    here, known_models = Pod("a", "ssh x", FACTS.gpus, boot="boot/1"), catalog.load()
    state.change(lambda before: State({pod.name: pod for pod in (here, *others)}, "a"))
    with pytest.raises(InputError) as raised:
        planner.plan(REQUEST, FACTS, known_models)
    return with_proposal(raised.value, REQUEST, here, FACTS, known_models)


def test_equal_pods_are_proposed_with_the_command() -> None:
    other = Pod("dc2", "ssh y", FACTS.gpus, boot="boot/2")
    assert (
        "over a and dc2 together it fits: pi start moonshotai/Kimi-K2-Instruct --name kimi --across a,dc2"
        in refused(other).render()
    )


@pytest.mark.parametrize(
    "other",
    [
        Pod("dc2", "ssh y", pods.pod("l4", 8).gpus),
        Pod("dc2", "ssh y", FACTS.gpus, boot="boot/1"),
        Pod("dc2", "ssh y"),
    ],
    ids=["other GPUs", "the same machine", "no GPUs"],
)
def test_other_pods_are_not_proposed(other: Pod) -> None:
    assert "--across" not in refused(other).render()


def test_other_refusals_stay_as_they_are() -> None:
    error = InputError("no-variants", "x", "y")
    assert with_proposal(error, REQUEST, Pod("a", "ssh x"), replace(FACTS), catalog.load()).hint == "y"
