"""Plans for models outside the catalog, from their files, their family and their name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pi.errors import InputError
from pi.model_id import ModelId
from pi.planning import catalog, machines, planner
from pi.planning.model_card import ModelCard, Verdict, card_of
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.planning.unserved import misspelled
from tests.pods import cpu_pod, pod

CATALOG = catalog.load()

CONFIGS = Path(__file__).parents[2] / "fixtures" / "configs"


def plan(model: str, facts: PodFacts, **wishes: Any) -> LaunchPlan:
    return planner.plan(Request(ModelId(model), "m", **wishes), facts, CATALOG)


def config_of(model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CONFIGS / f"{model.replace('/', '--')}.json").read_text())
    return found


def described(facts: PodFacts, model: str, gb: float, **card: Any) -> PodFacts:
    """The pod, after it read or asked for these files of a model."""
    config = config_of(model)
    return replace(
        facts,
        config=config,
        weights_bytes=int(gb * 1e9),
        model_card=replace(card_of(config), **card),
        model_at="missing",
    )


def refused(model: str, facts: PodFacts, **wishes: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        plan(model, facts, **wishes)
    return caught.value


# ----------------------------------------------------------------------------------- known files


def test_a_fine_tune_is_planned_like_a_model_of_the_catalog() -> None:
    facts = described(pod("rtx_4090", 4), "Qwen/Qwen3-32B", 65.5, base_models=("Qwen/Qwen3-32B",))
    made = plan("acme/support-bot", facts)
    assert (made.gpus, made.args.get("--tensor-parallel-size"), made.api) == ((0, 1, 2, 3), "4", "chat")
    assert (made.args.get("--tool-call-parser"), made.args.get("--reasoning-parser")) == ("hermes", "qwen3")
    assert made.memory is not None and made.memory.fits
    assert (made.download_gb, made.estimated, made.variant) == (65.5, False, None)
    assert made.why[0] == "acme/support-bot is not in the catalog, family qwen3 by its base model Qwen/Qwen3-32B"


def test_the_number_format_of_the_files_is_checked_against_the_card() -> None:
    facts = described(pod("h100", 1), "nvidia/Qwen3.6-27B-NVFP4", 20)
    on_blackwell = described(pod("b200", 1), "nvidia/Qwen3.6-27B-NVFP4", 20)
    volta = described(pod("v100", 4), "nvidia/Qwen3.6-27B-NVFP4", 20)
    assert "16 bit" not in plan("acme/Qwen3.6-27B-x", on_blackwell).why[1]
    assert "18.6 GB of nvfp4 weights, computed in 16 bit on H100" in plan("acme/Qwen3.6-27B-x", facts).why[1]
    assert "vLLM does not run on 4x Tesla V100-SXM2-32GB" in refused("acme/Qwen3.6-27B-x", volta).message


@pytest.mark.parametrize(
    ("machine", "hint"),
    [
        ("1x RTX 4090", "its int4 checkpoint fits here: pi start Qwen/Qwen3-14B-AWQ --name NAME"),
        ("1x RTX 4060", "it fits on 1x A100 40GB or 1x A40"),
    ],
)
def test_a_model_that_does_not_fit_has_a_hint_with_a_known_smaller_checkpoint(machine: str, hint: str) -> None:
    assert refused("Qwen/Qwen3-14B", machines.idle_pod(machines.parse(machine), CATALOG, {})).hint == hint


def test_a_shortage_of_a_very_large_model_is_in_plain_numbers() -> None:
    message = refused("thinkingmachines/Inkling-NVFP4", pod("h100", 8)).message
    assert "1676 GB of bf16 weights need 2235 GB of GPU memory" in message


def test_no_config_of_the_fixtures_breaks_a_plan() -> None:
    for path in sorted(CONFIGS.glob("*.json")):
        model = path.stem.replace("--", "/")
        made = plan(f"acme/{model.partition('/')[2]}-copy", described(pod("b300", 8), model, 100))
        assert made.memory is not None and made.memory.fits, model
        assert "--trust-remote-code" not in made.args, model


def test_a_model_of_the_catalog_takes_the_size_of_its_files() -> None:
    facts = replace(pod("h100", 1), sizes={"Qwen/Qwen3-32B-FP8": 34_000_000_000})
    made = plan("Qwen/Qwen3-32B", facts, variant="fp8")
    assert (made.download_gb, made.estimated) == (34.0, False)
    without = plan("Qwen/Qwen3-32B", pod("h100", 1), variant="fp8")
    assert without.estimated
    assert [why for why in without.why if "estimated" in why] and not [why for why in made.why if "estimated" in why]


def test_a_larger_file_changes_the_choice() -> None:
    whole = plan("Qwen/Qwen3-8B", pod("rtx_4090", 1))
    large = replace(pod("rtx_4090", 2), sizes={"Qwen/Qwen3-8B": 30_000_000_000})
    assert (whole.gpus, plan("Qwen/Qwen3-8B", large, variant="bf16").gpus) == ((0,), (0, 1))


@pytest.mark.parametrize(
    ("model", "variant", "ids"),
    [
        ("Qwen/Qwen3-32B", None, ("Qwen/Qwen3-32B", "Qwen/Qwen3-32B-FP8", "Qwen/Qwen3-32B-AWQ")),
        ("Qwen/Qwen3-32B", "fp8", ("Qwen/Qwen3-32B-FP8",)),
        ("Qwen/Qwen3-32B-FP8", None, ("Qwen/Qwen3-32B-FP8",)),
        ("acme/x", None, ()),
    ],
)
def test_only_checkpoints_that_may_serve_are_sized(model: str, variant: str | None, ids: tuple[str, ...]) -> None:
    asked = planner.checkpoints(Request(ModelId(model), "m", variant=variant), CATALOG)
    assert set(ids) <= set(asked) and (len(asked) == len(ids) or variant is None)


# --------------------------------------------------------------------------------- unknown files


def test_nobody_can_be_asked_but_the_name_is_known() -> None:
    made = plan("cyankiwi/Qwen3-32B-AWQ-4bit", pod("rtx_4090", 2))
    assert (made.estimated, made.download_gb) == (True, 24.0)
    assert made.args.get("--tool-call-parser") == "hermes"
    assert any("estimated" in why for why in made.why)
    assert len(plan("Qwen/Qwen2.5-72B-Instruct", pod("a100_80gb", 4)).gpus) > 1


def test_a_model_without_any_size_gets_one_gpu_and_its_parsers() -> None:
    made = plan("acme/GLM-4.6-AWQ", pod("h200", 8))
    assert (made.gpus, made.memory, made.estimated) == ((0,), None, True)
    assert made.args.get("--tool-call-parser") == "glm45"
    assert "its size is unknown, so pi cannot check whether it fits" in made.warnings


def test_context_of_the_index_is_a_limit() -> None:
    assert plan("Qwen/Qwen3-14B", pod("h100", 1)).context == 40960
    assert refused("Qwen/Qwen3-14B", pod("h100", 1), context=200_000).id == "context-too-long"


def test_parsers_on_a_cpu() -> None:
    made = plan("Qwen/Qwen3-0.6B", cpu_pod(24))
    assert made.args.get("--tool-call-parser") == "hermes"
    assert made.args.get("--max-num-seqs") == "4"


# ---------------------------------------------------------------------------------- other kinds


def test_embedding_takes_a_small_share() -> None:
    facts = described(pod("h100", 1), "Qwen/Qwen3-0.6B", 1.2)
    made = plan("acme/Qwen3-Embedding-0.6B", facts)
    assert (made.api, made.args.get("--runner")) == ("embedding", "pooling")
    assert made.memory_share is not None and made.memory_share <= 0.25
    assert "--enable-auto-tool-choice" not in made.args and "--reasoning-parser" not in made.args
    assert plan("acme/Qwen3-Embedding-0.6B", facts, memory=0.5).memory_share == 0.5


def test_kinds_have_their_arguments() -> None:
    h100 = pod("h100", 1)
    reranker = plan("Qwen/Qwen3-Reranker-0.6B", h100)
    assert (reranker.api, reranker.args.get("--runner")) == ("rerank", "pooling")
    assert '"Qwen3ForSequenceClassification"' in (reranker.args.get("--hf-overrides") or "")
    whisper = plan("openai/whisper-large-v3", h100)
    assert (whisper.api, "--runner" in whisper.args, "soundfile" in whisper.packages) == ("transcription", False, True)
    assert plan("facebook/opt-125m", h100).api == "completions"


# ------------------------------------------------------------------------------------- refusals

REMOVED = Verdict("removed", "MllamaForConditionalGeneration", "0.10.2")


def with_card(**card: Any) -> PodFacts:
    return replace(pod("h100", 1), model_card=replace(ModelCard(), **card), model_at="missing")


REFUSED = {
    "the hub has no such model": (
        "Qwen/Qwen3-Codr-30B-A3B-Instruct", with_card(absent=True), "unknown-model", "Qwen/Qwen3-Coder-30B-A3B-Instruct",
    ),
    "a private repository": ("acme/secret", with_card(absent=True), "unknown-model", "HF_TOKEN"),
    "a name without owner": ("Qwen3-Codr", pod("h100", 1), "unknown-model", "did you mean Qwen/Qwen3-Coder"),
    "GGUF by its files": (
        "acme/x", with_card(gguf=("x-Q4_K_M.gguf",), base_models=("Qwen/Qwen3-8B",)), "format-not-served",
        "start its base model: Qwen/Qwen3-8B",
    ),
    "GGUF by its name": (
        "Qwen/Qwen2.5-7B-Instruct-GGUF", pod("h100", 1), "format-not-served", "base model: Qwen/Qwen2.5-7B-Instruct",
    ),
    "GGUF of another owner": ("unsloth/Qwen3-8B-GGUF", pod("h100", 1), "format-not-served", "base model: Qwen/Qwen3-8B"),
    "MLX": ("mlx-community/Qwen3-8B-MLX-4bit", pod("h100", 1), "format-not-served", "MLX files"),
    "MLX by its owner": (
        "mlx-community/Qwen3-8B-4bit", pod("h100", 1), "format-not-served", "start its base model: Qwen/Qwen3-8B",
    ),
    "an adapter": (
        "acme/lora", with_card(adapter=True, base_models=("Qwen/Qwen3-8B",)), "adapter-not-model", "Qwen/Qwen3-8B",
    ),
    "removed from vLLM": (
        "meta-llama/Llama-3.2-11B-Vision-Instruct", with_card(verdicts={"venv": REMOVED}), "model-not-served",
        "MllamaForConditionalGeneration was removed after vLLM 0.10.2",
    ),
    "removed by its family": ("MiniMaxAI/MiniMax-M1-80k", pod("h100", 1), "model-not-served", "does not serve"),
    "an encoder-decoder by its name": ("google/flan-t5-large", pod("l4", 1), "model-not-served", "does not serve"),
    "not known to vLLM": (
        "google-t5/t5-base", with_card(verdicts={"venv": Verdict("unknown", "T5ForConditionalGeneration")}),
        "model-not-served", "does not know T5ForConditionalGeneration",
    ),
    "only with a plugin": (
        "facebook/bart-large", with_card(verdicts={"venv": Verdict("plugin", "BartModel", "https://x.test")}),
        "model-not-served", "https://x.test",
    ),
    "a format that vLLM dropped": (
        "unsloth/Llama-3.1-8B-Instruct-bnb-4bit", with_card(verdicts={"venv": Verdict("format", "bitsandbytes")}),
        "format-not-served", "does not load bitsandbytes weights",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "facts", "error_id", "text"), REFUSED.values(), ids=REFUSED)
def test_model_that_cannot_run_is_refused(model: str, facts: PodFacts, error_id: str, text: str) -> None:
    error = refused(model, facts)
    assert error.id == error_id and text in error.render(), error.render()


def test_another_venv_may_serve_the_model() -> None:
    verdicts = {"venv": Verdict("unknown", "NewForCausalLM"), "venv-nightly": Verdict("served", "NewForCausalLM")}
    facts = replace(with_card(verdicts=verdicts), extra_venvs={"venv-nightly": "0.34.0.dev1"})
    made = plan("acme/new-8B", facts)
    assert (made.venv, made.vllm_version) == ("venv-nightly", "0.34.0.dev1")
    assert any("venv-nightly" in why for why in made.why)


def test_overridden_architecture_needs_no_verdict() -> None:
    verdicts = {"venv": Verdict("unknown", "NewModel")}
    made = plan("Alibaba-NLP/gte-multilingual-base", with_card(architectures=("NewModel",), verdicts=verdicts))
    assert (made.api, made.venv) == ("embedding", "venv")


def test_names_that_look_like_a_format_but_are_not() -> None:
    facts = described(pod("h100", 1), "Qwen/Qwen3-8B", 16.4)
    assert plan("acme/Qwen3-8B-mlx-source", facts).gpus == (0,)


def test_short_names_of_old_models_are_no_misspellings() -> None:
    assert plan("gpt2", pod("h100", 1)).api == "completions"


DOUBTS = {
    "openai/gpt-oss-120": "pi does not know openai/gpt-oss-120; did you mean openai/gpt-oss-120b",
    "Qwen/Qwen3-Codr-30B": "Qwen/Qwen3-Coder-30B-A3B-Instruct",
    "someone/Qwen3-8B-Finetune": "",
    "acme/support-bot": "",
    "gpt2": "",
}


@pytest.mark.parametrize(("typed", "asked"), DOUBTS.items(), ids=DOUBTS)
def test_an_id_close_to_one_of_the_same_owner_gets_a_question(typed: str, asked: str) -> None:
    said = misspelled(typed, CATALOG)
    assert asked in said and bool(said) is bool(asked), said
