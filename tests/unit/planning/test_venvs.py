"""Choice of a vLLM on a pod, and the error if none fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pi.calls.survey import facts
from pi.errors import InputError
from pi.model_id import ModelId
from pi.on_pod.shapes import Survey
from pi.planning import catalog, planner, venvs
from pi.planning.catalog import Catalog
from pi.planning.offers import FITS, MORE, offers
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.vllm import versions
from pi.vllm.arguments import Arguments
from tests.pods import cpu_pod, pod


def entry(**facts: object) -> Catalog:
    """Return a catalog of one small model, me/new, which needs vLLM 0.33.0 by default."""
    variants = {"bf16": {"precision": "bf16"}}
    return catalog.read({"model": {"me/new": {"parameters": 1, "floor": "0.33.0", "variants": variants, **facts}}})


def on(version: str | None, **extra: str) -> PodFacts:
    """Return a pod with one H100 and this vLLM in ~/venv; `v0_33_0="0.33.0"` adds ~/venv-0.33.0."""
    return replace(pod("h100", 1), vllm_version=version, extra_venvs={folder(key): at for key, at in extra.items()})


def folder(key: str) -> str:
    return "venv-" + key.removeprefix("v").replace("_", ".")


def plan(facts: PodFacts, models: Catalog, **wishes: Any) -> LaunchPlan:
    return planner.plan(Request(ModelId("me/new"), "m", **wishes), facts, models)


RAW = Arguments.parse(["-tp", "1"])

# the case, the pod, the model's minimum, the folder and version that serve it
CHOICES = [
    ("~/venv if it is new enough", on("0.33.0", v0_40_0="0.40.0"), "0.33.0", "venv", "0.33.0"),
    ("an extra venv if it is not", on("0.32.0", v0_33_0="0.33.1"), "0.33.0", "venv-0.33.0", "0.33.1"),
    ("the oldest of several", on("0.32.0", v0_40_0="0.40.0", v0_9_0="0.34.0"), "0.33.0", "venv-0.9.0", "0.34.0"),
    ("a release before a nightly build", on("0.32.0", nightly="0.33.1.dev9+g1a", v0_34_0="0.34.0"), "0.33.0",
     "venv-0.34.0", "0.34.0"),
    ("a nightly build if it is the only one", on("0.32.0", nightly="0.33.1.dev9+g1a"), "0.33.0",
     "venv-nightly", "0.33.1.dev9+g1a"),
    ("a nightly build if no release serves it", on("0.32.0", nightly="0.33.1.dev9+g1a", v0_34_0="0.34.0"),
     "nightly", "venv-nightly", "0.33.1.dev9+g1a"),
    ("~/venv if it has a nightly build", on("0.33.1.dev9+g1a"), "nightly", "venv", "0.33.1.dev9+g1a"),
    ("~/venv if none fits", on("0.32.0", v0_32_5="0.32.5"), "0.33.0", "venv", "0.32.0"),
    ("~/venv if its version is unknown", on(None, v0_33_0="0.33.0"), "0.33.0", "venv", None),
    ("~/venv for a model without a minimum", on("0.32.0", v0_33_0="0.33.0"), None, "venv", "0.32.0"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "minimum", "venv", "version"), [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES])
def test_plan_chooses_a_venv(facts: PodFacts, minimum: str | None, venv: str, version: str | None) -> None:
    made = plan(facts, entry(floor=minimum) if minimum else entry(floor="0.1.0"))
    assert (made.venv, made.vllm_version) == (venv, version)


def test_vllm_that_dropped_the_model_is_not_chosen() -> None:
    facts = on("0.34.0", v0_32_0="0.32.0")
    made = plan(facts, entry(floor="0.31.0", ceiling="0.33.0"))
    assert made.venv == "venv-0.32.0"
    assert "vLLM 0.32.0 from ~/venv-0.32.0: it needs vLLM 0.33.0 or older, but ~/venv has 0.34.0" in made.why


def test_plan_explains_an_extra_venv() -> None:
    made = plan(on("0.32.0", v0_33_0="0.33.0"), entry())
    assert "vLLM 0.33.0 from ~/venv-0.33.0: it needs vLLM 0.33.0 or newer, but ~/venv has 0.32.0" in made.why
    assert not any("~/venv" in reason for reason in plan(on("0.33.0"), entry()).why)


def test_pod_without_gpus_has_extra_venvs() -> None:
    facts = replace(cpu_pod(), vllm_version="0.32.0+cpu", extra_venvs={"venv-0.33.0": "0.33.0+cpu"})
    made = plan(facts, entry())
    assert (made.venv, made.vllm_version) == ("venv-0.33.0", "0.33.0+cpu")


def test_raw_arguments_run_on_the_vllm_that_the_model_needs() -> None:
    assert plan(on("0.32.0", v0_33_0="0.33.0"), entry(), vllm_args=RAW).venv == "venv-0.33.0"
    alone = plan(on("0.32.0"), entry(), vllm_args=RAW)
    assert alone.warnings == ("the catalog requires vLLM 0.33.0 or newer, but the pod has 0.32.0",)
    assert venvs.refusal(alone, on("0.32.0"), "box") is None


def test_checkpoint_that_the_vllm_serves_is_preferred() -> None:
    both = {"fp8": {"precision": "fp8", "floor": "0.40.0", "id": "me/new-fp8"}, "bf16": {"precision": "bf16"}}
    models = entry(variants=both)
    old, new = plan(on("0.33.0"), models), plan(on("0.40.0"), models)
    assert (old.variant, new.variant) == ("bf16", "fp8")
    assert "not me/new-fp8: it needs vLLM 0.40.0 or newer" in old.why
    assert plan(on("0.33.0"), models, variant="fp8").min_vllm == "0.40.0"


def test_checkpoint_needs_at_least_its_models_minimum() -> None:
    models = entry(variants={"bf16": {"precision": "bf16", "floor": "0.30.0"}})
    new = models.find("me/new")
    assert new and new[1].min_vllm == "0.33.0"


REFUSALS = [
    ("a release", on("0.32.0"), {}, "me/new needs vLLM 0.33.0 or newer, but box has 0.32.0"),
    ("an extra venv that is too old", on("0.31.0", v0_32_0="0.32.0"), {},
     "me/new needs vLLM 0.33.0 or newer, but box has 0.31.0, 0.32.0 in ~/venv-0.32.0"),
    ("a nightly build", on("0.40.0"), {"floor": "nightly"}, "me/new needs a nightly build of vLLM, but box has 0.40.0"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "change", "message"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS])
def test_model_that_no_vllm_serves_is_rejected(facts: PodFacts, change: dict[str, object], message: str) -> None:
    refusal = venvs.refusal(plan(facts, entry(**change)), facts, "box")
    assert refusal is not None
    assert (refusal.id, refusal.message) == ("vllm-too-old", message)
    assert "pi pods setup box --for me/new --beside; " in str(refusal.hint)
    assert str(refusal.hint).endswith(": pi pods setup box --for me/new")


def test_hint_names_the_checkpoint() -> None:
    models = entry(floor="0.1.0", variants={"fp8": {"precision": "fp8", "floor": "0.40.0", "id": "me/new-fp8"}})
    refusal = venvs.refusal(plan(on("0.32.0"), models), on("0.32.0"), "box")
    assert refusal and "--for me/new-fp8 --beside" in str(refusal.hint)


def test_offer_needs_another_vllm() -> None:
    [offer] = offers(entry(), on("0.32.0"))
    assert (offer.state, offer.needs, offer.gpus) == (MORE, "vLLM 0.33.0 or newer; the pod has 0.32.0", 1)
    [offer] = offers(entry(), on("0.32.0", v0_33_0="0.33.0"))
    assert (offer.state, offer.needs) == (FITS, "")


VERSIONS = [
    ("0.32.0", "0.33.0", True),
    ("0.32.0+cpu", "0.32.0", False),
    ("0.33.1.dev9+g1a", "0.33.0", False),
    ("0.33.1.dev9+g1a", "0.34.0", True),
    ("0.33.1.dev9+g1a", "nightly", False),
    ("0.99.0", "nightly", True),
    (None, "0.33.0", False),
    ("0.32.0", None, False),
]


@pytest.mark.parametrize(("version", "minimum", "expected"), VERSIONS)
def test_too_old(version: str | None, minimum: str | None, expected: bool) -> None:
    assert versions.too_old(version, minimum) is expected


@pytest.mark.parametrize("key", ["floor", "ceiling"])
@pytest.mark.parametrize("value", ["new", "0.33.x", "", "../x", "0.33.0 ", "٠.33"])
def test_limit_that_is_not_a_release_is_rejected(key: str, value: str) -> None:
    with pytest.raises(InputError, match=r"such as 0\.32\.0") as caught:
        entry(**{key: value})
    assert caught.value.id == "catalog-entry-invalid"
    assert repr(value) in caught.value.message


def test_survey_ignores_folders_that_setup_does_not_make() -> None:
    survey: Survey = {
        "gpus": {"text": "", "error": None}, "gpu_processes": [], "ports": [], "records": [], "model": None,
        "vllm_version": "0.32.0", "memory_mib": 1024, "cpus": 1, "disk_free_bytes": 0, "public": {}, "sizes": {},
        "extra_venvs": {"venv-0.33.0": "0.33.0", "venv-nightly": "0.33.1.dev1", "venv-mine": "1.0", "venv-0/../..": "1.0",
                   "venv-0.33.0.broken-20260101-000000": "0.33.0", "$(id)": "1.0"},
    }  # fmt: skip
    assert facts(survey).extra_venvs == {"venv-0.33.0": "0.33.0", "venv-nightly": "0.33.1.dev1"}
