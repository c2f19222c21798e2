"""Everything that the planner can say to vLLM, said to the parser of the vLLM that is installed.

The packages in PI_E2E_OVERLAY come before those of the venv: `inv newest` puts the newest release there.
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

import pi
from pi.errors import PiError
from pi.fabric_tasks.flags import options_from
from pi.fabric_tasks.launch_options import LaunchOptions
from pi.planning import catalog, overrides, planner, serve
from pi.planning.adapters import RANKS, AdapterFacts
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.vllm import raw_arguments, settings, versions
from pi.vllm.arguments import SHORT
from tests.pods import cpu_pod, every_pod, pod

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
    """Each plan for each checkpoint on pods: as it comes, with a context, on half of the memory, on all GPUs.

    The pods have one or eight GPUs of each kind, or any number of H100s.
    """
    return tuple(_plans())


def _plans() -> Iterator[LaunchPlan]:
    pods = [facts for _, facts in every_pod() if len(facts.gpus) in (1, 8) or "H100" in facts.gpus[0].name]
    for facts in [*pods, cpu_pod(1024)]:
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
    yield from _changed()


def _changed() -> Iterator[LaunchPlan]:
    """Plans with what a user may change: text only, adapters, and settings of every form."""
    facts = replace(pod("h200", 8), adapters={"me/a": AdapterFacts(8)})
    for spec in CATALOG.models:
        if spec.text_only and (plan := _planned(Request(spec.id, "m", text_only=True), facts)):
            yield plan
    for flags in CHANGES:
        yield planner.plan(options_from(LaunchOptions, flags).request("Qwen/Qwen3-8B", "m"), facts, CATALOG)


CHANGES: list[dict[str, Any]] = [
    {"lora": ["a=me/a", "b=/srv/b"]},
    {"lora": ["a=me/a"], "set": ["max-lora-rank=64", "max_loras=4"]},
    {"set": ["max-num-seqs=64", "no-enable-prefix-caching", "kv_cache_dtype=fp8", "seed=-1"]},
    {"set": ["tp=2", "max-model-len=32k", "gpu-memory-utilization=0.5"]},
    {"set": ["max-model-len=auto", "enable-expert-parallel", "no-enable-expert-parallel"]},
    {"set": ["cudagraph-capture-sizes=1 2 4", "compilation-config.mode=3", "compilation_config.cudagraph_mode=NONE"]},
    {"set": ["speculative-config.method=ngram", "speculative-config.num_speculative_tokens=3"]},
    {"set": ['speculative-config={"method": "ngram"}', "speculative-config.prompt_lookup_max=4"]},
    {
        "set": [
            "hf-overrides.architectures+=A,B",
            'lora-modules={"name": "a", "path": "/srv/a"}',
            "lora-modules=a=/b c=/d",
        ]
    },
]
"""Flags of pi that bend a plan."""


def _planned(request: Request, facts: PodFacts) -> LaunchPlan | None:
    try:
        return planner.plan(request, facts, CATALOG)
    except PiError:
        return None


@pytest.fixture(scope="module")
def said(venv: Path) -> dict[str, Any]:
    """What the installed vLLM says of every plan's words, each list once."""
    commands = {words for plan in plans() for words in _commands(plan)}
    answer = subprocess.run(
        [venv / "bin" / "python", Path(__file__).with_name("read_by_vllm.py")],
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
        addresses = tuple(f"192.0.2.{number}" for number in range(1, plan.nodes + 1))
        part = serve.Rank(rank, addresses, "eth0", 29501) if plan.nodes > 1 else None
        words = serve.command(plan, "127.0.0.1", part)
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


def test_lists_and_ranks_are_those_of_vllm(said: dict[str, Any]) -> None:
    kept = set(raw_arguments.OWNED) | set(raw_arguments.OPENING)
    assert set(said["lists"]) - kept <= settings.LISTS
    assert tuple(said["ranks"]) == RANKS


def test_arguments_that_pi_plans_with_exist(said: dict[str, Any]) -> None:
    known = {*overrides.PLANNED, *overrides.SPLITS, *overrides.BEYOND_THE_SUM}
    assert known - set(said["options"]) <= {"--device-ids"}, "vLLM 0.33 added this one"


VERDICTS = {
    "nothing wrong": (["--max-num-seqs", "4"], None),
    "an unknown option": (["--max-num-sequences=4"], "unrecognized arguments: --max-num-sequences=4"),
    "a wrong value": (["--max-num-seqs", "many"], "argument --max-num-seqs: "),
    "a wrong choice": (["--dtype", "int3"], "argument --dtype: invalid choice"),
    "JSON that is cut short": (["--compilation-config", '{"mode": 3'], "argument --compilation-config"),
    "a part without a value": (["--compilation-config.mode"], "the last argument needs a value"),
    "a wrong combination": (["--enable-auto-tool-choice"], "requires --tool-call-parser"),
    "a parser that does not exist": (
        ["--tool-call-parser", "hermez"],
        "unknown parser 'hermez' (did you mean hermes?)",
    ),
    "a template that does not exist": (["--chat-template", "examples/none.jinja"], "examples/none.jinja"),
    "help": (["--help"], "only prints"),
}


@pytest.mark.parametrize(("words", "told"), VERDICTS.values(), ids=VERDICTS)
def test_program_for_the_pod_says_what_vllm_says(venv: Path, words: list[str], told: str | None) -> None:
    asked = {"words": ["serve", "org/model", *words], "variables": ["VLLM_LOGGING_LEVEL", "VLLM_LOGING_LEVEL"]}
    done = subprocess.run(
        [venv / "bin" / "python", "-c", PROGRAM.read_text()],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=MINUTES * 60,
        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR"},
        check=True,
    )
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert (verdict["objection"] is None) is (told is None), verdict
    assert (told or "") in (verdict["objection"] or "")
    assert verdict["unknown"] == ["VLLM_LOGING_LEVEL"]


PROGRAM = Path(pi.__file__).parent / "setup" / "templates" / "read_arguments.py"


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
