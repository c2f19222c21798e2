"""`--max-num-seqs` of every plan: what the card holds, the layers with a state allow, and the users need."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pi.errors import PiError
from pi.model_id import ModelId
from pi.planning import catalog, planner
from pi.planning.catalog import ModelSpec
from pi.planning.reasons import room_reason
from pi.planning.serving import MOST_SEQUENCES
from pi.planning.types import LaunchPlan, Request
from tests.pods import KINDS, pod

CATALOG = catalog.load()
HYBRIDS = [spec for spec in CATALOG.models if any(group.cache == "state" for group in spec.layers)]
COUNTS = (1, 2, 4, 8)


def plan(model: str, kind: str, count: int, **wishes: object) -> LaunchPlan | None:
    """Return the plan, or None if the model does not fit."""
    try:
        return planner.plan(replace(Request(ModelId(model), "m"), **wishes), pod(kind, count), CATALOG)  # type: ignore[arg-type]
    except PiError:
        return None


def test_hybrids_are_known() -> None:
    assert len(HYBRIDS) >= 30
    families = {str(spec.id).partition("/")[0] for spec in HYBRIDS}
    assert {"Qwen", "nvidia", "moonshotai", "LiquidAI"} <= families


@pytest.mark.parametrize("spec", HYBRIDS, ids=lambda spec: str(spec.id))
def test_sequences_have_blocks_for_their_states(spec: ModelSpec) -> None:
    """vLLM refuses to start with more sequences than blocks ("exceeds available Mamba cache blocks")."""
    made = [plan(spec.id, kind, count) for kind in KINDS for count in COUNTS]
    started = [one for one in made if one is not None]
    assert started
    for one in started:
        assert one.memory is not None and one.memory.state_blocks is not None
        assert int(one.args.get("--max-num-seqs") or 0) <= one.memory.state_blocks


STARTING = [
    ("Qwen/Qwen3.5-27B", "rtx_pro_6000", 1),
    ("Qwen/Qwen3.5-27B", "h100", 1),
    ("Qwen/Qwen3.6-27B", "l40s", 1),
    ("Qwen/Qwen3.6-27B", "h100", 1),
    ("Qwen/Qwen3.6-27B", "rtx_4090", 2),
    ("Qwen/Qwen3.8-27B", "l40s", 1),
    ("Qwen/Qwen3.8-27B", "rtx_pro_6000", 1),
    ("Qwen/Qwen3.8-27B", "h100", 1),
    ("Qwen/Qwen3.8-27B", "rtx_4090", 2),
    ("Qwen/Qwen3.5-35B-A3B", "l40s", 1),
    ("Qwen/Qwen3.5-35B-A3B", "a100_80gb", 1),
    ("Qwen/Qwen3.5-35B-A3B", "rtx_pro_6000", 1),
    ("Qwen/Qwen3.5-35B-A3B", "h100", 1),
    ("Qwen/Qwen3.6-35B-A3B", "l40s", 1),
    ("Qwen/Qwen3.6-35B-A3B", "a100_80gb", 1),
    ("Qwen/Qwen3.6-35B-A3B", "h100", 1),
    ("Qwen/Qwen3.5-122B-A10B", "rtx_pro_6000", 1),
    ("Qwen/Qwen3.5-122B-A10B", "h100", 2),
    ("Qwen/Qwen3.5-122B-A10B", "h200", 1),
    ("Qwen/Qwen3.5-122B-A10B", "b200", 1),
    ("Qwen/Qwen3.5-397B-A17B", "h100", 4),
    ("Qwen/Qwen3.5-9B", "rtx_4090", 1),
]
"""Plans that stopped at the start with vLLM's own number of sequences."""


@pytest.mark.parametrize(("model", "kind", "count"), STARTING)
def test_plans_that_stopped_serve_some_users(model: str, kind: str, count: int) -> None:
    made = plan(model, kind, count)
    assert made is not None
    assert 8 <= int(made.args.get("--max-num-seqs") or 0) <= MOST_SEQUENCES


def test_every_gpu_plan_states_its_sequences() -> None:
    for spec in CATALOG.models:
        made = plan(spec.id, "h100", 8)
        if made is not None:
            assert made.memory is not None
            assert made.args.get("--max-num-seqs") == str(made.memory.max_num_seqs)


def test_smaller_number_of_recipe_and_card_counts() -> None:
    recipe = plan("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", "b200", 8, variant="nvfp4")
    assert recipe is not None
    assert recipe.args.get("--max-num-seqs") == "16"
    card = plan("Qwen/Qwen3.6-27B", "l40s", 1, variant="fp8")  # its recipe states 512
    assert card is not None
    assert int(card.args.get("--max-num-seqs") or 512) < MOST_SEQUENCES


def test_model_of_unknown_size_gets_a_number_that_is_safe() -> None:
    made = planner.plan(Request(ModelId("org/model"), "m"), pod("h100", 1), CATALOG)
    assert made.memory is None
    assert made.args.get("--max-num-seqs") == "64"


def test_reason_names_context_and_sequences_together() -> None:
    made = plan("Qwen/Qwen3-8B", "h100", 1, variant="bf16")
    assert made is not None and made.memory is not None
    assert set(room_reason(made.memory)) <= set(made.why)
    assert room_reason(made.memory) == ("40960 tokens for one request, or 24 of 16384; up to 128 at a time",)
