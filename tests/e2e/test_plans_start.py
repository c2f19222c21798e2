"""Every plan for every pod, held against the start-up checks of the vLLM that is installed.

vLLM's own classes read the real config.json: they say which layers keep what, the size of pages and blocks, and
whether vLLM would start. Only the room for the cache is pi's: its overhead is raised by the worst error that a log of the
same kind shows.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chores.memory_logs import LOGS, left_out, logs
from pi.errors import PiError
from pi.planning import catalog, planner
from pi.planning.catalog import ModelSpec
from pi.planning.cuda_memory import card_of
from pi.planning.estimate import MemorySum
from pi.planning.network import Network
from pi.planning.overhead import GIB
from pi.planning.serving import serving_of
from pi.planning.types import LaunchPlan, PodFacts, Request
from tests.pods import every_pod

CONFIGS = {
    file.stem.replace("--", "/").lower(): json.loads(file.read_text())
    for file in (Path(__file__).parents[1] / "fixtures" / "configs").glob("*.json")
}
CATALOG = catalog.load()

UNREAD = {
    "moonshotai/Kimi-K3": "its module needs CUDA's bindings for Python",
    "stepfun-ai/Step-3.7-Flash": "vLLM 0.32 has its class under another name",
}
"""Models whose config.json this vLLM cannot read offline."""


NEED_CODE = ("minimaxai/minimax-m3",)
"""Checkpoints whose config.json names a type that needs code of the repository; NVIDIA's copy does not."""


BOLD = 1.02
"""The longest context that a plan may promise, as a part of what vLLM finds in the same room: both round to blocks."""

SHORT = 0.95
"""The shortest one."""

CAUTIOUS = "GLM-5.3"
"""Models with an indexer whose context pi understates, by up to 14 %."""


def kind_of(network: Network) -> str:
    """Return what decides how well the sum predicts the room."""
    caches = {group.cache for group in network.groups}
    special = next((cache for cache in ("latent", "state", "window") if cache in caches), "full")
    return special + (" with experts" if network.experts else "")


@cache
def worst() -> dict[str, float]:
    """Return the largest part of a GPU's memory by which the sum promised too much, for each kind of network."""
    bold = left_out()
    parts: dict[str, float] = {}
    for log in logs():
        if log.name in bold:
            kind = kind_of(log.network)
            parts[kind] = max(parts.get(kind, 0.0), bold[log.name])
    assert LOGS["logs"] and max(parts.values()) > 0.02
    return parts


def config_of(spec: ModelSpec) -> dict[str, Any] | None:
    """Return the real config.json of a model, or of one of its checkpoints, which have the same layers."""
    ids = [spec.id.lower(), *(variant.id.lower() for variant in spec.variants)]
    return next((CONFIGS[each] for each in ids if each in CONFIGS and each not in NEED_CODE), None)


@cache
def plans() -> tuple[tuple[ModelSpec, LaunchPlan, PodFacts], ...]:
    """Return every plan on one pod: each checkpoint with a real config.json on each pod that holds it."""
    return tuple(_plans())


def _plans() -> Iterator[tuple[ModelSpec, LaunchPlan, PodFacts]]:
    known = [spec for spec in CATALOG.models if config_of(spec)]
    for _, facts in every_pod():
        for spec in known if facts.nodes == 1 else []:
            for variant in spec.variants:
                try:
                    made = planner.plan(Request(spec.id, "m", variant=variant.name), facts, CATALOG)
                except PiError:
                    continue
                yield spec, made, facts


def memory_of(made: LaunchPlan) -> MemorySum:
    assert made.memory is not None
    return made.memory


def cases() -> list[dict[str, Any]]:
    """Return what vLLM is asked, grouped by the model that it must build.

    Of plans that differ only in the room for the cache, it is asked about the tightest and the roomiest. The number of
    sequences matters only if layers have a state, the tokens of a step only for windows.
    """
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    alike: dict[tuple[tuple[object, ...], tuple[object, ...]], list[dict[str, Any]]] = {}
    for number, (spec, made, facts) in enumerate(plans()):
        serving = serving_of(made.args, card_of(facts.gpus))
        memory = memory_of(made)
        speculative = json.loads(made.args.get("--speculative-config") or "{}")
        group = {
            "tensor": made.split.tensor,
            "cache_dtype": made.args.get("--kv-cache-dtype") or "auto",
            "prefix_caching": serving.prefix_caching,
            "windows": serving.windows,
            "drafts": serving.drafts if speculative.get("method") == "mtp" else 0,
        }
        wanted = made.args.get("--max-model-len") or ""
        plan = {
            "context": int(wanted) if wanted.isdecimal() else None,
            "longest": spec.context,
            "tokens": serving.tokens,
            "pipeline": made.split.pipeline,
            "sequences": int(made.args.get("--max-num-seqs") or 0),
        }
        bold = worst().get(kind_of(spec.network), max(worst().values()))
        room, worst_room = (int(gib * GIB) for gib in (memory.room_gib, memory.room_gib - bold * memory.memory_gib))
        key = (spec.id, *group.values())
        groups.setdefault(key, {**group, "config": config_of(spec), "plans": []})
        caches = {layers.cache for layers in spec.network.groups}
        counted = plan["sequences"] if "state" in caches else 0, plan["tokens"] if "window" in caches else 0
        place = key, (plan["context"], plan["pipeline"], *counted)
        alike.setdefault(place, []).append({"number": number, **plan, "room": room, "worst": worst_room})
    for (key, _), rooms in alike.items():
        rooms.sort(key=lambda each: each["worst"])
        groups[key]["plans"] += {each["number"]: each for each in (rooms[0], rooms[-1])}.values()
    return list(groups.values())


@pytest.fixture(scope="module")
def answers(venv: Path) -> list[dict[str, Any]]:
    """What vLLM says of each plan that differs from the others."""
    asked = cases()
    done = subprocess.run(
        [venv / "bin" / "python", Path(__file__).with_name("start_by_vllm.py")],
        input=json.dumps({"cases": asked}),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    print(f"{len(plans())} plans, {len(found)} of them at an end of their kind, {len(asked)} models built")
    return found


def test_vllm_builds_each_model_but_those_that_it_cannot_read(answers: list[dict[str, Any]]) -> None:
    unread = {plans()[each["plan"]][0].id: each["unread"] for each in answers if "unread" in each}
    assert set(unread) == set(UNREAD), unread


def described(answer: dict[str, Any], reason: object) -> str:
    _, made, facts = plans()[answer["plan"]]
    return f"{made.model} on {len(facts.gpus)}x {facts.gpus[0].name}: {reason}"


def test_vllm_starts_every_plan_even_with_the_worst_overhead(answers: list[dict[str, Any]]) -> None:
    assert len(answers) > 500
    assert [described(each, each["worst"]) for each in answers if each.get("worst")] == []


def test_no_plan_promises_a_longer_context_than_vllm_finds(answers: list[dict[str, Any]]) -> None:
    bold = []
    for each in answers:
        _, made, _ = plans()[each["plan"]]
        if made.context and made.context > BOLD * each.get("context", made.context):
            bold.append(described(each, f"{made.context} promised, {each['context']} fit"))
    assert bold == []


def test_no_plan_promises_a_much_shorter_context_than_vllm_finds(answers: list[dict[str, Any]]) -> None:
    short = []
    for each in answers:
        _, made, _ = plans()[each["plan"]]
        is_auto = made.args.get("--max-model-len") == "auto" and CAUTIOUS not in str(made.model)
        if is_auto and made.context and made.context < SHORT * each.get("context", made.context):
            short.append(described(each, f"{made.context} promised, {each['context']} fit"))
    assert short == []
