"""Ids of models and the family, parsers and modes that follow from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pi.planning import catalog, families
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.families import Families
from pi.planning.manners import STOPS_THE_START, SWALLOWS, Manners, manners
from pi.planning.model_card import ModelCard
from pi.planning.name_size import billions_in, estimated_gb, precision_in
from pi.planning.near import near_misses

FIXTURES = Path(__file__).parents[2] / "fixtures"

KNOWN = families.load()

WITHOUT_INDEX = replace(KNOWN, ids={})


def rows(name: str, separator: str | None = None) -> list[list[str]]:
    lines = (FIXTURES / name).read_text().splitlines()
    return [line.split(separator) for line in lines if not line.startswith("#")]


SERVED = [row for row in rows("served_ids.txt") if row[1] != "gguf"]


@pytest.mark.parametrize("known", [KNOWN, WITHOUT_INDEX], ids=["by the index", "by the name"])
@pytest.mark.parametrize(("model", "kind", "tools", "reasoning", "modes"), SERVED, ids=[row[0] for row in SERVED])
def test_most_served_id_has_its_parsers(
    model: str, kind: str, tools: str, reasoning: str, modes: str, known: Families
) -> None:
    family = known.named(model)
    assert family is not None
    assert (family.tools or "-", family.reasoning or "-") == (tools, reasoning)
    made = manners(model, ModelCard(), known)
    assert (made.kind, made.reasoning or "-") == (kind, reasoning)
    assert made.tools == (None if family.needs_template or tools == "-" else tools)
    assert (made.args.get("--load-format") == "mistral") == (modes == "modes")


FURTHER = rows("further_ids.tsv", "\t")


@pytest.mark.parametrize(("model", "family"), FURTHER, ids=[row[0] for row in FURTHER])
def test_further_id_has_its_family(model: str, family: str) -> None:
    found = KNOWN.named(model)
    assert (found.name if found else "-") == family


SAME_CLASS = {"qwen3_xml": "qwen3_coder", "glm47": "glm45"}
"""Parsers that are one class in vLLM 0.32 and 0.33."""

OTHERWISE = {
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": "the family's parser is likely, the catalog has none",
    "deepseek-ai/DeepSeek-V3": "its recipe has a reasoning parser that does nothing",
    "nvidia/DeepSeek-V3-FP4": "the same",
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-Base-BF16": "a base model",
    "ibm-granite/granite-3.2-2b-instruct": "its reasoning parser leaves plain answers alone",
}
"""Checkpoints of the catalog whose family differs from it, and why."""

CATALOG = catalog.load()


@pytest.mark.parametrize(
    ("spec", "variant"), [(s, v) for s in CATALOG.models for v in s.variants if not {s.id, v.id} & OTHERWISE.keys()]
)
def test_name_alone_gives_the_parsers_of_the_catalog(spec: ModelSpec, variant: Variant) -> None:
    made = manners(variant.id, ModelCard())

    def classes(*parsers: str | None) -> list[str | None]:
        return [SAME_CLASS.get(parser or "", parser) for parser in parsers]

    assert classes(made.tools, made.reasoning) == classes(spec.tools, spec.reasoning)


def test_every_id_of_the_index_has_a_family() -> None:
    assert {served.family for served in KNOWN.ids.values()} <= {family.name for family in KNOWN.families}
    assert len(KNOWN.ids) == 138


# ------------------------------------------------------------------------------- what the files say

CHAT = frozenset({"template", "tools"})
THINKS = CHAT | {"think"}


def card(*architectures: str, **facts: object) -> ModelCard:
    return replace(ModelCard(architectures=architectures), **facts)  # type: ignore[arg-type]


FILES: dict[str, tuple[str, ModelCard, tuple[str, str | None, str | None]]] = {
    "a base model of the card": (
        "acme/support-bot", card(base_models=("Qwen/Qwen3-8B",)), ("chat", "hermes", "qwen3"),
    ),
    "the first base model that is known": (
        "acme/merge", card(base_models=("acme/other", "zai-org/GLM-4.6")), ("chat", "glm45", "glm45"),
    ),
    "a fine-tune of a base model speaks by its template": (
        "acme/tuned", card("Qwen3ForCausalLM", base_models=("Qwen/Qwen3-8B-Base",), template=CHAT | {"<tool_call>"}),
        ("chat", "hermes", None),
    ),
    "a fine-tune that does not think": (
        "acme/Qwen3-8B-terse", card("Qwen3ForCausalLM", template=CHAT), ("chat", "hermes", None),
    ),
    "a fine-tune without tools": (
        "acme/Qwen3-8B-poet", card("Qwen3ForCausalLM", template=frozenset({"template", "think"})),
        ("chat", None, "qwen3"),
    ),
    "a name against its network": (
        "acme/Qwen3-Coder-style-8B", card("LlamaForCausalLM", template=CHAT | {"<|python_tag|>"}),
        ("chat", "llama3_json", None),
    ),
    "Kimi's network with DeepSeek's class": (
        "acme/x", card("DeepseekV3ForCausalLM", model_type="kimi_k2"), ("chat", "kimi_k2", None),
    ),
    "DeepSeek's class: its parser stops the start": (
        "acme/x", card("DeepseekV3ForCausalLM", model_type="deepseek_v3"), ("chat", None, None),
    ),
    "Llama's class: its parser stops the start": ("acme/x", card("LlamaForCausalLM"), ("chat", None, None)),
    "Mistral's class": ("acme/x", card("MistralForCausalLM"), ("chat", None, None)),
    "Qwen's class: its parser is harmless": ("acme/x", card("Qwen2ForCausalLM"), ("chat", "hermes", None)),
    "a class with one family that thinks": ("acme/x", card("Qwen3_5ForCausalLM"), ("chat", "qwen3_coder", None)),
    "an unknown class": ("acme/x", card("NewForCausalLM"), ("chat", None, None)),
    "an unknown class with a known template": (
        "acme/x", card("NewForCausalLM", template=THINKS | {"<tool_call>", "<function="}), ("chat", "qwen3_coder", None),
    ),
    "GLM's marks before Hermes'": (
        "acme/x", card("NewForCausalLM", template=THINKS | {"<tool_call>", "<arg_key>"}), ("chat", "glm45", None),
    ),
    "no template": ("acme/x", card("LlamaForCausalLM", template=frozenset()), ("completions", None, None)),
    "a base model with a template": (
        "Qwen/Qwen3-8B-Base", card("Qwen3ForCausalLM", template=CHAT | {"<tool_call>"}), ("chat", None, None),
    ),
    "a base model by its name": ("meta-llama/Llama-3.1-8B", ModelCard(), ("completions", None, None)),
    "harmony needs no template": ("openai/gpt-oss-20b", card("GptOssForCausalLM", template=frozenset()),
                                  ("chat", "openai", None)),
    "Sentence Transformers": ("acme/x", card("Qwen2ForCausalLM", pooling=True), ("embedding", None, None)),
    "a network for embeddings": ("acme/x", card("XLMRobertaModel"), ("embedding", None, None)),
    "a cross-encoder": (
        "acme/x", card("BertForSequenceClassification", labels=1), ("rerank", None, None),
    ),
    "a classifier": ("acme/x", card("Qwen2ForSequenceClassification", labels=5), ("classify", None, None)),
    "a reward model": ("acme/x", card("Qwen2ForProcessRewardModel"), ("reward", None, None)),
    "a chat model's name with a head for classes": (
        "acme/Qwen3-8B-classifier", card("Qwen3ForSequenceClassification", labels=3), ("classify", None, None),
    ),
    "speech": ("acme/x", card("WhisperForConditionalGeneration"), ("transcription", None, None)),
}  # fmt: skip


@pytest.mark.parametrize(("model", "facts", "expected"), FILES.values(), ids=FILES)
def test_files_decide(model: str, facts: ModelCard, expected: tuple[str, str | None, str | None]) -> None:
    made = manners(model, facts)
    assert (made.kind, made.tools, made.reasoning) == expected


@pytest.mark.parametrize("architecture", sorted({name for each in KNOWN.families for name in each.architectures}))
def test_no_network_alone_gives_a_parser_that_can_do_harm(architecture: str) -> None:
    made = manners("acme/x", card(architecture))
    assert made.tools not in STOPS_THE_START and made.reasoning is None


def test_lists_of_parsers_that_can_do_harm_name_parsers_of_families() -> None:
    used = {family.reasoning for family in KNOWN.families} | {family.tools for family in KNOWN.families}
    assert SWALLOWS - used <= {"holo2", "minicpmv"} and STOPS_THE_START - used <= {"llama4_json"}


# ----------------------------------------------------------------------------------- modes and code


@pytest.mark.parametrize(
    ("model", "consolidated", "has_modes"),
    [
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", None, True),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", True, True),
        ("unsloth/Mistral-Small-3.2-24B-Instruct-2506", None, False),
        ("unsloth/Mistral-Small-3.2-24B-Instruct-2506", True, True),
        ("unsloth/Mistral-Small-3.2-24B-Instruct-2506", False, False),
    ],
)
def test_mistral_modes_need_mistral_files(model: str, consolidated: bool | None, has_modes: bool) -> None:
    made = manners(model, card("Mistral3ForConditionalGeneration", consolidated=consolidated, template=CHAT))
    assert ("--tokenizer-mode" in made.args, "--load-format" in made.args) == (has_modes, has_modes)
    assert made.tools == "mistral"


def notes(made: Manners) -> str:
    return "; ".join(made.notes)


def test_code_runs_only_from_the_familys_owner() -> None:
    assert manners("moonshotai/Kimi-K2-Instruct-0905", ModelCard()).code
    copy = manners("acme/Kimi-K2-Instruct-0905-AWQ", ModelCard())
    assert not copy.code and "moonshotai" in notes(copy)
    assert not manners("/models/Kimi-K2-Instruct-0905", ModelCard()).code
    assert "--trust-remote-code" not in copy.args


def test_tools_that_need_a_template_are_off_with_a_reason() -> None:
    made = manners("deepseek-ai/DeepSeek-R1-0528", ModelCard())
    assert (made.tools, made.reasoning) == (None, "deepseek_r1")
    assert "tool_chat_template_deepseekr1.jinja" in notes(made)


def test_doubtful_parser_is_named() -> None:
    assert "hermes parser for its tool calls is disputed" in notes(
        manners("Qwen/Qwen2.5-Coder-7B-Instruct", ModelCard())
    )


@pytest.mark.parametrize(
    ("model", "architecture", "overridden"),
    [
        ("Qwen/Qwen3-Reranker-4B", "Qwen3ForCausalLM", True),
        ("Qwen/Qwen3-Reranker-4B", None, True),
        ("tomaarsen/Qwen3-Reranker-4B-seq-cls", "Qwen3ForSequenceClassification", False),
        ("Alibaba-NLP/gte-multilingual-base", "NewModel", True),
    ],
)
def test_overrides_are_for_the_networks_they_were_made_for(
    model: str, architecture: str | None, overridden: bool
) -> None:
    made = manners(model, card(*([architecture] if architecture else [])))
    assert made.args.get("--runner") == "pooling"
    assert ("--hf-overrides" in made.args) == overridden


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/0a1b2c", "qwen3"),
        ("/models/Qwen3-8B/", "qwen3"),
        ("~/GLM-4.6-AWQ", "glm-4.5/4.6"),
        ("/models/mine", None),
    ],
)
def test_path_is_a_name_too(path: str, family: str | None) -> None:
    found = manners(path, ModelCard()).family
    assert (found.name if found else None) == family


# ------------------------------------------------------------------------------- size, near misses

SIZES = {
    "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8": (30, "fp8"),
    "mistralai/Mixtral-8x7B-Instruct-v0.1": (46.48, "bf16"),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": (None, "bf16"),
    "Qwen/Qwen2.5-72B-Instruct-GPTQ-Int8": (72, "int8"),
    "unsloth/Qwen3.8-27B-NVFP4": (27, "nvfp4"),
    "cyankiwi/GLM-4.5-Air-AWQ-4bit": (None, "int4"),
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1_5": (49, "bf16"),
    "facebook/opt-125m": (0.125, "bf16"),
    "google/gemma-3n-E4B-it": (None, "bf16"),
    "RedHatAI/phi-4-quantized.w4a16": (None, "int4"),
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B": (8, "bf16"),
    "BAAI/bge-m3": (None, "bf16"),
}


@pytest.mark.parametrize(("model", "expected"), SIZES.items(), ids=SIZES)
def test_name_states_parameters_and_format(model: str, expected: tuple[float | None, str]) -> None:
    found = billions_in(model)
    assert (None if found is None else round(found, 3), precision_in(model)) == expected


def test_estimate_is_not_below_measured_checkpoints() -> None:
    measured = {"unsloth/Qwen3.8-27B-NVFP4": 23.408, "cyankiwi/Qwen3.6-27B-AWQ-INT4": 20.5, "Qwen/Qwen3-14B-AWQ": 9.4,
                "Qwen/Qwen3.5-35B-A3B-FP8": 37.495, "meta-llama/Llama-3.3-70B-Instruct": 141.111}  # fmt: skip
    for model, real_gb in measured.items():
        estimated = estimated_gb(model)
        assert estimated is not None and 0.97 * real_gb <= estimated <= 1.2 * real_gb, model


NEAR = {
    "Qwen3-Codr": "Qwen/Qwen3-Coder-Next",
    "Qwen/Qwen3-Codr-30B-A3B-Instruct": "Qwen/Qwen3-Coder-30B-A3B-Instruct",
    "Qwn/Qwen3-8B": "Qwen/Qwen3-8B",
    "llama3.1": "meta-llama/Llama-3.1-8B",
    "llama3.3": "meta-llama/Llama-3.3-70B-Instruct",
    "Qwen/Qwen3-8B-Instruct": "Qwen/Qwen3-8B",
    "gptoss-20b": "openai/gpt-oss-20b",
    "whisper-large": "openai/whisper-large-v3",
}


@pytest.mark.parametrize(("typed", "meant"), NEAR.items())
def test_near_miss_is_found(typed: str, meant: str) -> None:
    assert meant in near_misses(typed, CATALOG, KNOWN)


@pytest.mark.parametrize("typed", ["acme/support-bot", "bert-base-uncased", "gpt2"])
def test_other_names_are_no_near_misses(typed: str) -> None:
    assert near_misses(typed, CATALOG, KNOWN) == ()
