"""`pi plan`, `pi start --dry-run` and `pi models` on a live pod: what is found out, what is said, nothing touched."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command import KEY, Pi
from tests.rig.hub import hub
from tests.rig.pod import Pod, make_venv
from tests.ssh.conftest import NewPod

CONFIG = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = {"metadata": {"total_size": 1}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}


def line(output: str, label: str) -> str:
    [found] = [row.removeprefix(label).strip() for row in output.splitlines() if row.startswith(label + " ")]
    return found


@pytest.mark.core
def test_plan_is_what_start_does(pi: Pi, box: Pod) -> None:
    box.cards("h100_8")
    words = ("Qwen/Qwen3-8B", "--name", "qwen", "--memory", "50%", "--gpus", "2")
    planned = pi.ok("start", *words, "--dry-run")
    assert (pi.models("box"), box.records(), box.quiet()) == ({}, [], {})
    assert not (box.home / "received").exists()
    [command] = [shlex.split(row) for row in planned.splitlines() if row.startswith("vllm serve ")]
    variables = dict(row.split("=", 1) for row in planned.partition("\nvllm serve")[0].splitlines())
    pi.ok("start", *words)
    received = box.received("qwen")
    assert received["argv"] == command[1:]
    assert variables.pop("PATH").replace("~", str(box.home)) == f"{box.home}/venv/bin:$PATH"
    assert {name: received["env"][name] for name in variables} == {k: shlex.split(v)[0] for k, v in variables.items()}


def test_unknown_model_of_the_hub_has_a_memory_sum(pi: Pi, new_pod: NewPod) -> None:
    """The repository contains the weights twice; the sum counts them once."""
    sizes = {SHARDS[0]: 10 * 10**9, SHARDS[1]: 6 * 10**9, "consolidated.safetensors": 16 * 10**9}
    with hub(sizes, {"config.json": CONFIG, "model.safetensors.index.json": INDEX}) as address:
        pod = new_pod(environment={"HF_ENDPOINT": address})
        pi.knows(pod)
        pod.cards("rtx_4090_2")
        output = pi.ok("plan", "org/unknown-8b", "--context", "16k")
        assert line(output, "memory").startswith("14.9 weights + 2.0 KV cache for 16384 tokens + ")
        assert line(output, "download").startswith("16 GB unless it is already on the pod; ")
        assert "org/unknown-8b is not in the catalog" in output and "--tool-call-parser" not in output
        done = pi("plan", "org/unknown-8b", "--context", "1m")
        assert (done.code, done.out, done.id) == (2, "", "context-too-long")
        assert "131072" in done.err


def test_unknown_model_that_is_too_large_is_not_downloaded(pi: Pi, new_pod: NewPod) -> None:
    with hub({"model.safetensors": 64 * 10**9}, {"config.json": CONFIG}) as address:
        pod = new_pod(environment={"HF_ENDPOINT": address})
        pi.knows(pod)
        pod.cards("rtx_4090_2")
        done = pi("start", "org/unknown-32b", "--name", "q")
        assert (done.code, done.id) == (2, "does-not-fit")
        assert "org/unknown-32b does not fit: 59.6 GB of bf16 weights" in done.err
        assert "it fits on 4x RTX 4090" in done.err
        assert not (pod.home / "received").exists() and pod.records() == []


PAGE = {
    "cardData": {"base_model": ["Qwen/Qwen3-8B"]},
    "config": {"tokenizer_config": {"chat_template": "{% if tools %}<tool_call>{% endif %}<think>"}},
}


def test_a_fine_tune_has_the_parsers_of_its_base_model(pi: Pi, new_pod: NewPod) -> None:
    config = {**CONFIG, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16"}
    with hub({"model.safetensors": 64 * 10**9}, {"config.json": config}, PAGE) as address:
        pod = new_pod(environment={"HF_ENDPOINT": address})
        pi.knows(pod)
        pod.cards("h100_8")
        output = pi.ok("plan", "https://huggingface.co/acme/support-bot/tree/main")
    assert "--tool-call-parser hermes --reasoning-parser qwen3" in output
    assert "acme/support-bot is not in the catalog, family qwen3 by its base model Qwen/Qwen3-8B" in output
    assert "estimated" not in output


def test_the_hub_tells_the_size_of_a_model_of_the_catalog(pi: Pi, new_pod: NewPod) -> None:
    with hub({"model.safetensors": 17 * 10**9, "original/consolidated.pth": 10**12}) as address:
        pod = new_pod(environment={"HF_ENDPOINT": address})
        pi.knows(pod)
        pod.cards("h100_8")
        output = pi.ok("plan", "Qwen/Qwen3-8B")
    assert line(output, "download").startswith("17 GB unless it is already on the pod; ")
    assert "estimated" not in output


def test_estimated_sizes_are_named(pi: Pi, box: Pod) -> None:
    box.cards("h100_8")
    assert "the size of the weights is estimated" in pi.ok("plan", "Qwen/Qwen3-8B")
    assert "the size of the weights is estimated" in pi.ok("plan", "Qwen/Qwen2.5-72B-Instruct")


def test_a_model_that_the_hub_does_not_have_is_not_downloaded(pi: Pi, new_pod: NewPod) -> None:
    with hub(None) as address:
        pod = new_pod(environment={"HF_ENDPOINT": address})
        pi.knows(pod)
        done = pi("start", "Qwen/Qwen3-Codr-30B-A3B-Instruct", "--name", "q")
        assert (done.code, done.id) == (2, "unknown-model")
        assert "did you mean Qwen/Qwen3-Coder-30B-A3B-Instruct" in done.err
        assert not (pod.home / "received").exists() and pod.records() == []


def test_an_offline_pod_asks_no_hub(pi: Pi, new_pod: NewPod) -> None:
    with hub(None) as address:
        pod = new_pod(environment={"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "1"})
        pi.knows(pod)
        pod.cards("h100_8")
        assert "--tool-call-parser hermes" in pi.ok("plan", "acme/Qwen3-8B-tuned")


def test_gguf_files_are_refused_with_the_base_model(pi: Pi, new_pod: NewPod) -> None:
    with hub({"m-Q4_K_M.gguf": 5 * 10**9}, {}, PAGE) as address:
        pod = new_pod(environment={"HF_ENDPOINT": address})
        pi.knows(pod)
        done = pi("start", "acme/quantized:Q4_K_M", "--name", "q")
    assert (done.code, done.id) == (2, "format-not-served")
    assert "start its base model: Qwen/Qwen3-8B" in done.err


def test_a_vllm_without_the_architecture_is_asked_first(pi: Pi, box: Pod) -> None:
    (box.home / "venv").unlink()
    packages = next(make_venv(box.home / "venv").glob("lib/python3*/site-packages"))
    registry = packages / "vllm" / "model_executor" / "models" / "registry.py"
    registry.parent.mkdir(parents=True)
    registry.write_text(
        '_A_MODELS = {"B": 1}\n_PREVIOUSLY_SUPPORTED_MODELS = {"MllamaForConditionalGeneration": "0.10.2"}\n'
    )
    done = pi("start", box.model(architectures=["MllamaForConditionalGeneration"]), "--name", "q")
    assert (done.code, done.id) == (2, "model-not-served")
    assert "MllamaForConditionalGeneration was removed after vLLM 0.10.2" in done.err


def test_too_large_for_a_cpu_is_not_downloaded(pi: Pi, new_pod: NewPod) -> None:
    with hub({"model.safetensors": 64 * 10**12}, {"config.json": CONFIG}) as address:
        pod = new_pod(environment={"HF_ENDPOINT": address})
        pi.knows(pod)
        done = pi("start", "org/unknown-32t", "--name", "q")
    assert (done.code, done.id) == (2, "does-not-fit")
    assert "org/unknown-32t" in done.err and " 5960" in done.err
    assert not (pod.home / "received").exists() and pod.records() == []


def test_plan_notes_an_unknown_size(pi: Pi, box: Pod) -> None:
    box.cards("rtx_4090_2")
    output = pi.ok("plan", "org/unknown")
    assert line(output, "note") == "its size is unknown, so pi cannot check whether it fits"
    assert line(output, "download").startswith("of unknown size, unless it is already on the pod; ")


def test_plan_fetches_nothing_that_is_on_the_pod(pi: Pi, box: Pod) -> None:
    pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    assert line(pi.ok("plan", "Acme/Tiny-1B"), "download") == "none, its weights are on the pod"
    assert "download" not in pi.ok("plan", box.model())


def test_plan_reports_a_disk_that_is_too_small(pi: Pi, box: Pod) -> None:
    box.cards("b200_8")
    assert line(pi.ok("plan", "openai/gpt-oss-20b"), "download").endswith("GB of disk free")
    (pi.config / "models.toml").write_text(HUGE)
    assert line(pi.ok("plan", "me/huge"), "download").endswith("GB of disk free, not enough")


HUGE = """
[model."me/huge"]
parameters = 1
variants.bf16 = { precision = "bf16", weights_gb = 1200, minimum_gb = 1201 }
"""


def test_plan_names_packages_and_how_to_install_them(pi: Pi, box: Pod) -> None:
    box.cards("b200_8")
    output = line(pi.ok("plan", "Qwen/Qwen3-VL-235B-A22B-Instruct"), "packages")
    assert output.startswith(
        "qwen-vl-utils==0.0.14; to install what is missing: pi pods setup box --for Qwen/Qwen3-VL-235B-A22B-Instruct"
    )


def test_plan_as_json_is_what_start_passes(pi: Pi, box: Pod) -> None:
    box.cards("h100_8")
    words = ("Qwen/Qwen3-8B", "--name", "qwen", "--gpus", "2", "--memory", "50%")
    printed = pi.ok("plan", *words, "--json")
    made = json.loads(printed)
    assert (made["model"], made["gpus"], made["tensor_parallel"]) == ("Qwen/Qwen3-8B", [0, 1], 2)
    assert not {box.ssh, "127.0.0.1", KEY} & set(shlex.split(printed))
    pi.ok("start", *words)
    received = box.received("qwen")
    assert received["argv"][-len(made["args"]) :] == made["args"]
    assert made["env"].items() <= received["env"].items()


def test_each_refusal_as_json_has_exit_code_2(pi: Pi, box: Pod) -> None:
    box.cards("rtx_4090_2")
    pi.ok("list")
    done = pi("plan", "openai/gpt-oss-120b", "--json")
    refused = json.loads(done.out)["refused"]
    assert (done.code, done.err, list(refused)) == (2, "", ["message", "hint"])
    assert refused["message"].startswith("openai/gpt-oss-120b does not fit: ")
    assert pi("plan", "openai/gpt-oss-120b").err == f"pi: {refused['message']}; {refused['hint']}\n"
    pi.ok("start", "Qwen/Qwen3-8B", "--name", "qwen")
    done = pi("plan", "Qwen/Qwen3-8B", "--name", "qwen", "--json")
    assert (done.code, json.loads(done.out)["refused"]["message"]) == (2, "qwen already runs")
    assert pi("plan", "Qwen/Qwen3-8B", "--name", "qwen").code == 5


def test_missing_path_has_no_plan(pi: Pi, box: Pod) -> None:
    done = pi("plan", "/no/such/model")
    assert (done.code, done.out, done.id) == (1, "", "no-such-path")
    assert "/no/such/model" in done.err
    done = pi("plan", "/no/such/model", "--json")
    assert (done.code, done.err, list(json.loads(done.out))) == (2, "", ["refused"])


def listed(pi: Pi, *words: str) -> list[dict[str, Any]]:
    offers: list[dict[str, Any]] = json.loads(pi.ok("models", *words, "--json"))
    return offers


def test_model_outside_the_catalog_possibly_works(pi: Pi, box: Pod) -> None:
    box.cards("h100_8")
    [offer] = listed(pi, "org/unknown")
    assert (offer["model"], offer["state"]) == ("org/unknown", "possible")
    assert pi.ok("models", "org/unknown").startswith("possibly works:\nMODEL ")
    assert listed(pi, "no", "such", "words") == []


def test_user_entries_are_offered_and_planned(pi: Pi, box: Pod, tmp_path: Path) -> None:
    box.cards("h100_8")
    text = '[model."Qwen/Qwen3-8B"]\ncontext = 2048\n[model."me/x"]\nparameters = 1\nvariants.bf16.precision = "bf16"\n'
    (pi.config / "models.toml").write_text(text)
    assert line(pi.ok("plan", "qwen/qwen3-8b"), "context") == "2048 tokens"
    assert [offer["state"] for offer in listed(pi, "me/x")] == ["fits"]
    (pi.config / "models.toml").write_text('[model."Qwen/Qwen3-8B"]\ncontex = 2048\n')
    for words in (["models"], ["start"], ["plan", "a/b"], ["start", "a/b", "--name", "q"]):
        done = pi(*words)
        assert (done.code, done.out) == (2, "")
        assert "models.toml: model Qwen/Qwen3-8B: unknown key contex" in done.err
        assert done.err.count("\n") == 1
