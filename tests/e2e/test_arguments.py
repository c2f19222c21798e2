"""Everything that the planner can say to vLLM, said to the parser of the vLLM that is installed.

PI_E2E_VENV names the venv that holds it; without it a pod of this tier is set up, and its venv is used. The packages
in PI_E2E_OVERLAY come before those of the venv: `inv newest` puts the newest release there.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pi.errors import PiError
from pi.planning import catalog, planner, serve
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.vllm import raw_arguments, versions
from pi.vllm.arguments import SHORT
from tests.pods import cpu_pod, every_pod

VENV = Path(os.environ.get("PI_E2E_VENV") or Path(__file__).parents[2] / ".e2e" / "one" / "home" / "venv")
MINUTES = 10

NOT_VLLMS = {
    "CUDA_DEVICE_ORDER": "CUDA",
    "PYTORCH_CUDA_ALLOC_CONF": "PyTorch",
    "FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED": "FlashAttention",
}
"""Variables of the catalog that others than vLLM read."""

CATALOG = catalog.load()


@cache
def plans() -> tuple[LaunchPlan, ...]:
    """Each plan for each checkpoint on each pod: as it comes, with a context, on half of the memory, on all GPUs."""
    return tuple(_plans())


def _plans() -> Iterator[LaunchPlan]:
    pods = [*every_pod(), ("CPU", cpu_pod(1024))]
    for _, facts in pods:
        for spec in CATALOG.models:
            for variant in spec.variants:
                request = Request(spec.id, "m", variant=variant.name)
                plain = _planned(request, facts)
                if plain is None:
                    continue
                yield plain
                bent = [replace(request, context=4096), replace(request, memory=0.5)]
                bent += [replace(request, draft=not variant.draft.default)] if variant.draft else []
                bent += [replace(request, gpus=len(facts.gpus))] if facts.gpus else []
                yield from filter(None, (_planned(wish, facts) for wish in bent))


def _planned(request: Request, facts: PodFacts) -> LaunchPlan | None:
    try:
        return planner.plan(request, facts, CATALOG)
    except PiError:
        return None


@pytest.fixture(scope="module")
def said(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the installed vLLM says of every plan's words, each list once."""
    if "PI_E2E_VENV" not in os.environ:
        request.getfixturevalue("pods")
    python = VENV / "bin" / "python"
    commands = {words for plan in plans() for words in _commands(plan)}
    answer = subprocess.run(
        [python, Path(__file__).with_name("read_by_vllm.py")],
        input=json.dumps({"commands": sorted(commands)}),
        capture_output=True,
        text=True,
        timeout=MINUTES * 60,
        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "PYTHONPATH": os.environ.get("PI_E2E_OVERLAY", "")},
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return {"asked": len(commands), **json.loads(answer.stdout.splitlines()[-1])}


def _commands(plan: LaunchPlan) -> Iterator[tuple[str, ...]]:
    for rank in range(plan.nodes):
        head = ("192.0.2.1", 29501) if plan.nodes > 1 else None
        words = serve.command(plan, "127.0.0.1", rank, head)
        yield words[1:]


def test_vllm_reads_every_argument_list(said: dict[str, Any]) -> None:
    print(f"{said['asked']} argument lists of {len(plans())} plans, vLLM {said['version']}")
    assert said["asked"] > 1000
    assert said["refused"] == []


def test_vllm_announces_the_removal_of_no_argument(said: dict[str, Any]) -> None:
    assert said["announced"] == []


def test_vllm_has_every_parser_of_the_catalog(said: dict[str, Any]) -> None:
    served = [spec for spec in CATALOG.models if not versions.too_old(said["version"], spec.min_vllm)]
    assert {spec.tools for spec in served if spec.tools} <= set(said["tools"])
    assert {spec.reasoning for spec in served if spec.reasoning} <= set(said["reasoning"])


def test_vllm_knows_every_variable_of_the_plans(said: dict[str, Any]) -> None:
    names = {name for plan in plans() for name in serve.environment(plan)}
    assert names - set(said["environments"]) <= set(NOT_VLLMS)
    assert set(NOT_VLLMS) <= names, "a listed exception that no plan needs"


def test_every_argument_that_pi_keeps_for_itself_exists(said: dict[str, Any]) -> None:
    known = set(said["options"])
    assert set(raw_arguments.OWNED) | set(raw_arguments.OPENING) | set(SHORT.values()) <= known | {"--model"}
    assert set(SHORT) - {"-O"} <= known


def test_no_whole_option_of_vllm_is_refused_as_the_beginning_of_another(said: dict[str, Any]) -> None:
    kept = set(raw_arguments.OWNED) | set(raw_arguments.OPENING)
    beginnings = {
        option
        for option in said["options"]
        if option.startswith("--") and option not in kept and any(name.startswith(option) for name in kept)
    }
    assert beginnings == set()


def test_entries_beyond_this_vllm_are_named(said: dict[str, Any]) -> None:
    newer = [
        variant.id
        for spec in CATALOG.models
        for variant in spec.variants
        if versions.too_old(said["version"], variant.min_vllm)
    ]
    older = [spec.id for spec in CATALOG.models if versions.too_old(spec.max_vllm, said["version"])]
    print(f"need a newer vLLM: {newer or 'none'}; an older one: {older}")
    assert older == ["pfnet/plamo-2-translate"]


def test_entries_marked_as_parsed_have_been_and_all_that_can_be_are_marked(said: dict[str, Any]) -> None:
    parsed = {plan.model for plan in plans()}
    marked = {v.id for spec in CATALOG.models for v in spec.variants if v.checked}
    assert marked == parsed
