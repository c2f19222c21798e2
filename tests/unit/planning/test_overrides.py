"""Plans with `--set`, `--env`, `--lora` and `--text-only`, from the words of the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pi.errors import InputError, PiError, RemoteError
from pi.fabric_tasks.flags import options_from
from pi.fabric_tasks.launch_options import LaunchOptions
from pi.model_id import ModelId
from pi.planning import catalog, planner
from pi.planning.adapters import AdapterFacts
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.vllm.repositories import Repository, named_by
from tests.pods import cpu_pod, pod

CATALOG = catalog.load()
DENSE, VISION, MOE = "Qwen/Qwen3-8B", "Qwen/Qwen3.5-27B", "openai/gpt-oss-120b"
H100 = pod("h100", 8)


def request(model: str = DENSE, **flags: Any) -> Request:
    return options_from(LaunchOptions, flags).request(model, "m")


def plan(model: str = DENSE, facts: PodFacts = H100, **flags: Any) -> LaunchPlan:
    return planner.plan(request(model, **flags), facts, CATALOG)


def refused(error_id: str, *told: str, kind: type[PiError] = InputError, **flags: Any) -> None:
    with pytest.raises(kind) as caught:
        plan(**flags)
    assert caught.value.id == error_id, caught.value.render()
    assert [word for word in told if word not in caught.value.render()] == [], caught.value.render()


def test_a_plan_without_changes_is_pis_own() -> None:
    made = plan()
    assert (made.fixed, made.reads_words, made.adapters) == (frozenset(), False, ())


def test_a_setting_replaces_pis_argument_and_is_a_reason() -> None:
    made = plan(VISION, pod("rtx_pro_6000", 1), variant="fp8", set=["max-num-seqs=16", "no-enable-auto-tool-choice"])
    assert made.args.get("--max-num-seqs") == "16"
    assert [word for word in made.args.words if "auto-tool-choice" in word] == ["--no-enable-auto-tool-choice"]
    assert made.fixed == {"--max-num-seqs", "--enable-auto-tool-choice"}
    assert made.reads_words
    assert "set by you: max-num-seqs=16, no-enable-auto-tool-choice" in made.why


HANDED_OVER = {
    "the context": ("max-model-len=32k", {"context": 32000}, "--max-model-len", "32000"),
    "the context, by its short suffix": ("max_model_len=8K", {"context": 8192}, "--max-model-len", "8192"),
    "the share of memory": ("gpu-memory-utilization=0.5", {"memory_share": 0.5}, "--gpu-memory-utilization", "0.5"),
    "the number of GPUs": ("tensor-parallel-size=2", {"gpus": (0, 1)}, "--tensor-parallel-size", "2"),
    "the number of GPUs, by its short option": ("tp=2", {"gpus": (0, 1)}, "--tensor-parallel-size", "2"),
}


@pytest.mark.parametrize(("text", "fields", "option", "value"), HANDED_OVER.values(), ids=HANDED_OVER)
def test_pi_plans_with_sizes_that_are_set(text: str, fields: dict[str, Any], option: str, value: str) -> None:
    made = plan(set=[text])
    assert {name: getattr(made, name) for name in fields} == fields
    assert [made.args.get(option), sum(item.name == option for item in made.args.items)] == [value, 1]
    assert made.fixed == {option}


def test_a_context_that_vllm_chooses_stays_an_argument() -> None:
    made = plan(DENSE, replace(H100, vllm_version="0.12.0"), set=["max-model-len=auto"])
    assert made.args.get("--max-model-len") == "auto"
    assert made.fixed == {"--max-model-len"}


def test_flags_fix_their_options_too() -> None:
    made = plan(context="8k", memory="80%", gpus="2")
    assert made.fixed == {"--max-model-len", "--gpu-memory-utilization", "--tensor-parallel-size"}
    assert not made.reads_words


def test_a_setting_of_the_cache_changes_the_memory_sum() -> None:
    tight: dict[str, Any] = {"model": "Qwen/Qwen3-32B", "facts": pod("rtx_4090", 1)}
    plain, small = plan(**tight).context, plan(**tight, set=["kv-cache-dtype=fp8"]).context
    assert plain and small and small > 1.5 * plain


REFUSED = {
    "a context that does not fit": ("context-too-long", {"set": ["max-model-len=1000000"]}, "40960"),
    "a context that is not a number": ("context-invalid", {"set": ["max-model-len=long"]}, "'long'"),
    "a size without a value": ("set-invalid", {"set": ["max-model-len"]}, "write --set max-model-len=VALUE"),
    "a share above the limit": ("memory-invalid", {"set": ["gpu-memory-utilization=0.99"]}, "95%"),
    "GPUs that are not a number": ("gpus-invalid", {"set": ["tensor-parallel-size=all"]}, "number of GPUs"),
    "more GPUs than the pod has": ("too-many-gpus", {"set": ["tensor-parallel-size=16"]}, "8 GPUs"),
    "another split": ("set-split", {"set": ["pipeline-parallel-size=2"]}, "use --gpus N"),
    "GPUs by number": ("set-split", {"set": ["device-ids=0 1"]}, "use --gpus N"),
    "a contradiction": ("flags-conflict", {"set": ["tp=2"], "gpus": "4"}, "--gpus and --set tensor-parallel-size"),
    "another contradiction": ("flags-conflict", {"set": ["max-model-len=8K"], "context": "4k"}, "remove one of them"),
    "the beginning of an option": ("set-abbreviated", {"set": ["max-model=8K"]}, "write max-model-len"),
    "--set and --vllm": ("flags-conflict", {"set": ["seed=1"], "vllm": ["--seed", "2"]}, "--set and --vllm exclude"),
    "--lora and --vllm": ("flags-conflict", {"lora": ["a=b/c"], "vllm": ["--seed", "2"]}, "--lora and --vllm"),
    "adapters twice": ("flags-conflict", {"lora": ["a=b/c"], "set": ["lora-modules=d=e/f"]}, "use --lora for each"),
    "a pasted command": ("pasted-command", {"vllm": ["vllm", "serve", "a/b"]}, "remove it"),
    "text only without a recipe for it": ("no-text-only", {"text_only": True}, "--set language-model-only"),
    "text only outside the catalog": ("no-text-only", {"model": "org/x", "text_only": True}, "has no recipe"),
}


@pytest.mark.parametrize(("error_id", "flags", "told"), REFUSED.values(), ids=REFUSED)
def test_changes_that_pi_refuses(error_id: str, flags: dict[str, Any], told: str) -> None:
    refused(error_id, told, **flags)


def test_a_split_that_pi_would_not_choose_is_refused() -> None:
    """Its FP8 blocks limit tensor parallelism to 4."""
    refused("set-split", "8-way tensor", "--gpus 8", model="MiniMaxAI/MiniMax-M2", set=["tp=8"])


def test_the_same_number_twice_is_not_a_contradiction() -> None:
    assert plan(set=["tp=2"], gpus="2").gpus == (0, 1)


def test_the_environment_of_the_user_wins() -> None:
    made = plan(VISION, H100, variant="fp8", env=["VLLM_USE_DEEP_GEMM=1", "NCCL_DEBUG=INFO"])
    assert made.env["VLLM_USE_DEEP_GEMM"] == "1" and made.env["NCCL_DEBUG"] == "INFO"
    assert made.env["CUDA_VISIBLE_DEVICES"] == "0"
    assert "environment set by you: VLLM_USE_DEEP_GEMM, NCCL_DEBUG" in made.why


def test_the_environment_goes_with_raw_arguments() -> None:
    made = plan(vllm=["--seed", "1"], env=["NCCL_DEBUG=INFO"])
    assert made.env["NCCL_DEBUG"] == "INFO"
    assert (made.args.words, made.fixed, made.reads_words) == (("--seed", "1"), frozenset({"--seed"}), True)


def test_code_of_others_is_a_warning() -> None:
    assert any("--worker-cls" in warning for warning in plan(set=["worker-cls=x.Y"]).warnings)
    assert any("--kv-cache-memory-bytes" in w for w in plan(set=["kv-cache-memory-bytes=8G"]).warnings)


def test_text_only_is_vllms_argument_and_a_reason() -> None:
    made = plan(VISION, text_only=True)
    assert "--language-model-only" in made.args
    assert any("text only" in reason for reason in made.why)
    assert not made.reads_words


# ------------------------------------------------------------------------------------------ adapters


def with_adapters(**known: AdapterFacts) -> PodFacts:
    return replace(H100, adapters={f"me/{name}": facts for name, facts in known.items()})


def test_adapters_are_served_by_their_names() -> None:
    facts = with_adapters(sql=AdapterFacts(64, DENSE), chat=AdapterFacts(8, "qwen/qwen3-8b"))
    made = plan(DENSE, facts, lora=["sql=me/sql", "chat=me/chat"])
    [modules] = [item.words for item in made.args.items if item.name == "--lora-modules"]
    assert modules == ("--lora-modules", "sql=me/sql", "chat=me/chat")
    assert (made.args.get("--max-loras"), made.args.get("--max-lora-rank")) == ("2", "64")
    assert "--enable-lora" in made.args
    assert made.adapters == ("sql", "chat")
    assert "adapter sql: me/sql, rank 64; requests name it as their model" in made.why
    assert not [warning for warning in made.warnings if "adapter" in warning]
    assert named_by(made.args) == (Repository(ModelId("me/sql")), Repository(ModelId("me/chat")))


RANKS = {1: None, 8: None, 16: None, 17: "32", 300: "320", 512: "512"}


@pytest.mark.parametrize(("rank", "limit"), RANKS.items())
def test_rank_becomes_a_limit_that_vllm_accepts(rank: int, limit: str | None) -> None:
    assert plan(DENSE, with_adapters(a=AdapterFacts(rank)), lora=["a=me/a"]).args.get("--max-lora-rank") == limit


def test_doubts_about_an_adapter_are_warnings() -> None:
    assert any("rank of adapter a is unknown" in warning for warning in plan(lora=["a=me/a"]).warnings)
    made = plan(DENSE, with_adapters(a=AdapterFacts(8, "org/other")), lora=["a=me/a"])
    assert "adapter a was made for org/other" in made.warnings
    assert plan(DENSE, H100, lora=["a=me/a"], set=["max-lora-rank=32"]).args.get("--max-lora-rank") == "32"


def test_adapters_work_on_a_cpu_and_from_a_path() -> None:
    made = plan("/srv/model", cpu_pod(), lora=["a=/srv/adapter"])
    assert ("--lora-modules", "a=/srv/adapter") in [item.words for item in made.args.items]
    assert named_by(made.args) == ()


LORAS = {
    "no name": ("lora-invalid", ["me/sql"], "NAME=ID"),
    "no repository": ("lora-invalid", ["sql="], "NAME=ID"),
    "a name that is a path": ("name-invalid", ["../x=me/sql"], "letters, digits"),
    "a repository that is a command": ("model-id-invalid", ["sql=me/sql;id"], "invalid model"),
    "a name twice": ("lora-repeated", ["sql=me/a", "sql=me/b"], "given twice"),
    "the model's own name": ("name-taken", ["m=me/a"], "choose another name"),
}


def test_adapters_take_memory_of_the_cache() -> None:
    """64 slots of rank 64 for 8 billion parameters: 22 GB."""
    alone, one = plan(facts=pod("rtx_4090", 1)), plan(facts=pod("rtx_4090", 1), lora=["a=me/a"])
    assert alone.memory and one.memory
    assert 0.05 < one.memory.weights_gib - alone.memory.weights_gib < 0.2
    assert (one.memory.longest or 0) <= (alone.memory.longest or 0)
    many = ["max-loras=64", "max-lora-rank=64"]
    refused("does-not-fit", "weights", facts=pod("rtx_4090", 1), lora=["a=me/a"], set=many, gpus="1")
    made = plan(facts=with_adapters(a=AdapterFacts(64)), lora=["a=me/a"], set=["max-loras=64"])
    assert made.memory and made.memory.weights_gib > 25


def test_sequences_that_are_set_are_those_of_the_sum() -> None:
    made, usual = plan(set=["max-num-seqs=1024"]), plan()
    assert made.memory and usual.memory
    assert (made.memory.max_num_seqs, made.args.get("--max-num-seqs")) == (1024, "1024")
    assert made.memory.overhead_gib > usual.memory.overhead_gib
    assert any(reason.endswith("up to 1024 at a time") for reason in made.why)
    one = pod("h100", 1)
    told = ("does not fit: its KV cache holds the states of ", ", not of 4096; it fits here with --set max-num-seqs=")
    refused("does-not-fit", *told, facts=one, model=VISION, set=["max-num-seqs=4096"])


@pytest.mark.parametrize(("error_id", "lora", "told"), LORAS.values(), ids=LORAS)
def test_adapters_that_pi_refuses(error_id: str, lora: list[str], told: str) -> None:
    refused(error_id, told, lora=lora)


def test_an_adapter_that_the_pod_does_not_have_is_an_error() -> None:
    facts = replace(H100, adapters={"/srv/a": AdapterFacts(absent=True)})
    refused("no-such-path", "/srv/a", kind=RemoteError, facts=facts, lora=["a=/srv/a"])


def test_a_rank_above_vllms_highest_is_refused() -> None:
    refused("lora-rank", "1024", "512", facts=with_adapters(a=AdapterFacts(1024)), lora=["a=me/a"])


# ------------------------------------------------------------------------------------------ templates


def test_a_template_that_no_package_contains_is_said() -> None:
    made = plan("google/gemma-4-31B-it")
    assert any("tool_chat_template_gemma4.jinja" in warning for warning in made.warnings)
    assert "--chat-template" not in made.args


def test_33_models_have_a_text_only_mode() -> None:
    """As many as the recipes of 2026-08 have."""
    assert sum(spec.text_only for spec in CATALOG.models) == 33
    assert CATALOG.find(MOE) and not plan(MOE).warnings
