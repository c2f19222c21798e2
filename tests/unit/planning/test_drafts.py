"""Speculative decoding: the key `draft` of the catalog, and the plans that use it."""

from __future__ import annotations

import json

import pytest

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning import catalog, planner
from pi.planning.catalog import ModelSpec
from pi.planning.types import LaunchPlan, PodFacts, Request
from tests.pods import cpu_pod, pod

CATALOG = catalog.load()
DRAFTING = [spec for spec in CATALOG.models if any(variant.draft for variant in spec.variants)]

ON = {
    "Qwen/Qwen3.5-9B",
    "Qwen/Qwen3.5-27B",
    "Qwen/Qwen3.6-27B",
    "Qwen/Qwen3.8-27B",
    "moonshotai/Kimi-K2.5",
    "moonshotai/Kimi-K2.6",
    "moonshotai/Kimi-K2.7-Code",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
}
"""Dense models from 9 B with heads of their own, and those whose recipe drafts by default."""

QWEN = "Qwen/Qwen3.6-27B"


def plan(model: str, facts: PodFacts, draft: bool | None = None, variant: str | None = None) -> LaunchPlan:
    return planner.plan(Request(ModelId(model), "m", draft=draft, variant=variant), facts, CATALOG)


def speculative(made: LaunchPlan) -> dict[str, object] | None:
    words = made.args.get("--speculative-config")
    return json.loads(words) if words else None


def test_recipes_with_drafts_have_them() -> None:
    assert len(DRAFTING) >= 55
    assert {spec.id for spec in DRAFTING if any(v.draft and v.draft.default for v in spec.variants)} == ON


@pytest.mark.parametrize("spec", DRAFTING, ids=lambda spec: spec.id)
def test_draft_is_complete(spec: ModelSpec) -> None:
    for draft in filter(None, (variant.draft for variant in spec.variants)):
        assert 1 <= draft.tokens <= 15 and draft.good_up_to > 0
        assert bool(draft.repository) == (draft.extra_gb > 0)
        for args in (draft.args, *draft.on.values()):
            assert not args.items or "num_speculative_tokens" in json.loads(args.get("--speculative-config") or "{}")


def test_small_and_sparse_models_do_not_draft_by_default() -> None:
    for spec in DRAFTING:
        if spec.parameters_b < 9 or (spec.active_b or 99) < 9:
            assert not any(variant.draft and variant.draft.default for variant in spec.variants), spec.id


def test_plan_drafts_by_default_and_says_so() -> None:
    made = plan(QWEN, pod("h100", 1))
    assert speculative(made) == {"method": "mtp", "num_speculative_tokens": 3}
    assert (
        "its own MTP head drafts 3 tokens at a time, which pays for up to 32 requests at once; --no-draft switches it off"
        in made.why
    )


def test_no_draft_leaves_it_out() -> None:
    made = plan(QWEN, pod("h100", 1), draft=False)
    assert speculative(made) is None
    assert not any("drafts" in sentence for sentence in made.why)


def test_draft_adds_the_draft_model_to_memory_and_download() -> None:
    facts = pod("h200", 1)
    plain, drafted = (
        plan("google/gemma-4-31B-it", facts, variant="fp8"),
        plan("google/gemma-4-31B-it", facts, draft=True, variant="fp8"),
    )
    assert plain.memory and drafted.memory and plain.download_gb and drafted.download_gb
    assert speculative(plain) is None
    assert drafted.memory.weights_gib > plain.memory.weights_gib
    assert drafted.download_gb == pytest.approx(plain.download_gb + 3.33)
    assert any(sentence.startswith("google/gemma-4-31B-it-assistant drafts 4 tokens") for sentence in drafted.why)


def test_known_draft_model_has_its_measured_size() -> None:
    text = (
        '[model."me/x"]\nparameters = 27\nvariants.a = { precision = "bf16" }\n'
        'draft = { args = ["--speculative-config", \'{"model":"z-lab/d","num_speculative_tokens":2}\'] }\n'
        '[sizes.hub]\nweights_gb = { "z-lab/d" = 3.4 }\n'
    )
    draft = catalog.read(catalog.parsed(text, "x")).models[0].variants[0].draft
    assert draft and (draft.repository, draft.extra_gb, draft.default) == ("z-lab/d", 3.4, False)


def test_hardware_has_its_own_arguments() -> None:
    flash = "deepseek-ai/DeepSeek-V4-Flash"
    on_hopper = speculative(plan(flash, pod("h200", 8), draft=True, variant="fp8"))
    on_blackwell = speculative(plan(flash, pod("b200", 8), draft=True, variant="fp8"))
    assert on_hopper and on_blackwell
    assert (on_hopper["num_speculative_tokens"], on_blackwell["num_speculative_tokens"]) == (1, 2)


def test_checkpoint_has_its_own_draft() -> None:
    found = CATALOG.find("deepseek-ai/DeepSeek-V4-Flash")
    assert found
    drafts = {variant.name: variant.draft.method if variant.draft else "" for variant in found[0].variants}
    assert drafts == {"0731": "dspark", "fp8": "mtp", "nvfp4": "mtp", "dspark": "dspark"}


def test_draft_skips_checkpoints_without_its_heads() -> None:
    assert plan(QWEN, pod("rtx_4090", 1)).variant in ("awq", "autoround")
    assert speculative(plan(QWEN, pod("rtx_4090", 1))) is None


WITHOUT = {
    "a model without one": ("Qwen/Qwen3-32B", pod("h100", 1), "pi knows no draft for Qwen/Qwen3-32B"),
    "a model outside the catalog": ("me/unknown", pod("h100", 1), "pi knows no draft for me/unknown"),
    "a card on which it does not work": (
        "meta-models/Muse-Glimmer-30B",
        pod("rtx_5090", 4),
        "pi knows no draft for meta-models/Muse-Glimmer-30B on this hardware",
    ),
    "a pod without a GPU": ("Qwen/Qwen3.5-9B", cpu_pod(64, 8), "this pod has no GPU"),
}


@pytest.mark.parametrize(("model", "facts", "message"), WITHOUT.values(), ids=WITHOUT)
def test_draft_is_rejected(model: str, facts: PodFacts, message: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(model, facts, draft=True)
    assert caught.value.message == message


INVALID = {
    "no arguments": ("{}", "'args' is missing"),
    "not the option": ('{ args = ["--x", "1"] }', "draft without --speculative-config and its JSON"),
    "no JSON": ('{ args = ["--speculative-config", "mtp"] }', "Expecting value"),
    "no number of tokens": ("{ args = [\"--speculative-config\", '{}'] }", "'num_speculative_tokens' is missing"),
    "an unknown key": ("{ args = [], onn = 1 }", "unknown key onn in draft"),
}


@pytest.mark.parametrize(("table", "message"), INVALID.values(), ids=INVALID)
def test_invalid_draft_is_named(table: str, message: str) -> None:
    text = f'[model."me/x"]\nparameters = 7\ndraft = {table}\nvariants.a = {{ precision = "bf16" }}\n'
    if table == "{}":
        text = text.replace("{}", "{ default = true }")
    with pytest.raises(InputError) as caught:
        catalog.read(catalog.parsed(text, "x"))
    assert message in caught.value.message


# --------------------------------------------------------------------------------------------------- arguments

DROPPED = ("--no-enable-prefix-caching", "--mamba-cache-mode", "--disable-cascade-attn", "--disable-log-requests")


def test_no_plan_switches_prefix_caching_off_or_uses_an_option_announced_for_removal() -> None:
    for spec in CATALOG.models:
        for variant in spec.variants:
            tunings = [spec.tuning, variant.tuning, *spec.tunings.values(), *variant.tunings.values()]
            tunings += [layout.tuning for layout in variant.layouts]
            for args in [tuning.args for tuning in tunings] + ([variant.draft.args] if variant.draft else []):
                assert [option for option in DROPPED if option in args] == [], spec.id
                assert args.get("--quantization") != "awq", spec.id


def test_short_prefill_of_80_gb_cards_stays_there() -> None:
    words = {kind: plan("openai/gpt-oss-120b", pod(kind, 1)).args.words for kind in ("h100", "h200")}
    assert "--max-num-batched-tokens" in words["h100"] and "--max-num-batched-tokens" not in words["h200"]


CONTEXTS = {
    "google/gemma-4-26B-A4B-it": 262144,
    "google/gemma-4-12B-it": 262144,
    "MiniMaxAI/MiniMax-M2.7": 204800,
    "MiniMaxAI/MiniMax-M2.5": 196608,
}


@pytest.mark.parametrize(("model", "context"), CONTEXTS.items())
def test_context_is_that_of_the_config(model: str, context: int) -> None:
    found = CATALOG.find(model)
    assert found and found[0].context == context


def test_recipes_without_towers_are_marked() -> None:
    assert sum(spec.text_only for spec in CATALOG.models) == 33
