"""One model over several pods: plans, what must be equal, the network, and the proposal of a refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pi.errors import BusyError, InputError
from pi.model_id import ModelId
from pi.planning import catalog, spanning
from pi.planning.spanning import Parts
from pi.planning.types import PodFacts, Request
from pi.pods.types import Pod
from pi.vllm.arguments import Arguments
from tests.pods import busy, cpu_pod, pod

CATALOG = catalog.load()

GLM, KIMI = (Request(ModelId(name), "m") for name in ("zai-org/GLM-4.6", "moonshotai/Kimi-K2-Instruct"))

PARTS = Parts(
    {"vllm": "vllm-0.33.0", "torch": "torch-2.14.0", "NCCL": "nvidia_nccl_cu13-2.29.3"},
    {"VLLM_LOGGING_LEVEL": "aa"},
    "e8c4b7",
)


def test_equal_pods_get_equal_plans_that_split_the_model_over_both() -> None:
    plans = spanning.plans(GLM, {"a": pod("h100", 8), "b": pod("h100", 8)}, CATALOG)
    assert {(plan.nodes, plan.split.tensor, plan.split.pipeline) for plan in plans.values()} == {(2, 8, 2)}
    assert plans["a"].args.get("--nnodes") == "2" and not spanning.is_tensor_over(plans["a"])
    wide = spanning.plans(KIMI, {"a": pod("h200", 8), "b": pod("h200", 8)}, CATALOG)
    assert spanning.is_tensor_over(wide["b"])


def test_data_parallelism_over_pods_is_refused() -> None:
    spec = replace(CATALOG.models[0], spans="data", experts=True, data_parallel=True)
    facts = pod("h100", 8)
    with pytest.raises(InputError, match="needs data parallelism over pods"):
        spanning.plans(Request(spec.id, "m"), {"a": facts, "b": facts}, replace(CATALOG, models=(spec,)))


def test_pods_without_gpus_split_a_model_by_tensor_parallelism() -> None:
    facts = replace(cpu_pod(), model_at="path", config={"max_position_embeddings": 4096}, weights_bytes=10**6)
    plans = spanning.plans(Request(ModelId("/m"), "m"), {"a": facts, "b": facts}, CATALOG)
    assert plans["a"].args.get("--tensor-parallel-size") == "2" and spanning.is_tensor_over(plans["a"])


def test_the_pod_with_the_least_free_memory_decides_the_share() -> None:
    free = pod("h100", 8)
    used = free
    for gpu in range(8):
        used = busy(used, gpu, 16_000)
    request = replace(GLM, model=ModelId("Qwen/Qwen3-32B"))
    plans = spanning.plans(request, {"a": free, "b": used}, CATALOG)
    assert plans["a"].memory_share == plans["b"].memory_share and (plans["a"].memory_share or 1) < 0.85


def test_a_start_refuses_a_pod_that_has_changed_since_the_agreement() -> None:
    facts = pod("h100", 8)
    plan = spanning.plans(GLM, {"a": facts, "b": facts}, CATALOG)["b"]
    assert spanning.again(GLM, plan, facts, CATALOG, "b").args == plan.args
    other = replace(facts, extra_venvs={}, gpus=facts.gpus[:4])
    with pytest.raises((BusyError, InputError)):
        spanning.again(GLM, plan, other, CATALOG, "b")
    with pytest.raises(BusyError, match="b has changed"):
        spanning.again(replace(GLM, set_args=Arguments.parse(["--seed", "3"])), plan, facts, CATALOG, "b")


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (pod("h100", 8), pod("h200", 8), "a has 8x H100 80GB HBM3, b has 8x H200"),
        (pod("h100", 8), pod("h100", 4), "b has 4x H100 80GB HBM3"),
        (pod("l4", 1), cpu_pod(), "b has no GPU"),
    ],
)
def test_pods_with_other_gpus_are_refused(one: PodFacts, other: PodFacts, words: str) -> None:
    with pytest.raises(InputError, match="different GPUs") as raised:
        spanning.require_equal_gpus({"a": one, "b": other})
    assert words in raised.value.message
    spanning.require_equal_gpus({"a": one, "b": one})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"versions": {**PARTS.versions, "vllm": "vllm-0.32.0"}}, "a has vllm 0.33.0, b has 0.32.0"),
        ({"versions": {**PARTS.versions, "torch": "torch-2.13.0"}}, "a has torch 2.14.0, b has 2.13.0"),
        ({"versions": {**PARTS.versions, "NCCL": "none"}}, "a has NCCL 2.29.3, b has none"),
        ({"environment": {}}, "VLLM_LOGGING_LEVEL differ on a and b"),
        ({"environment": {"VLLM_LOGGING_LEVEL": "bb"}}, "VLLM_LOGGING_LEVEL differ on a and b"),
    ],
)
def test_pods_with_other_packages_or_variables_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as raised:
        spanning.require_equal({"a": PARTS, "b": replace(PARTS, **change)})
    assert words in raised.value.message
    spanning.require_equal({"a": PARTS, "b": PARTS})


@pytest.mark.parametrize("weights", [None, "ffff"])
def test_pods_with_other_files_of_the_model_are_refused(weights: str | None) -> None:
    with pytest.raises(InputError, match=f"a has e8c4b7, b has {weights or 'none'}"):
        spanning.require_same_weights({"a": PARTS, "b": replace(PARTS, weights=weights)}, "o/m")
    spanning.require_same_weights({"a": PARTS, "b": PARTS}, "o/m")


@pytest.mark.parametrize(
    ("storages", "is_shared"),
    [(("", ""), False), (("s:/m hub", "s:/m hub"), True), (("s:/m hub", "s:/n hub", ""), False)],
)
def test_pods_with_the_same_storage_download_one_after_the_other(storages: tuple[str, ...], is_shared: bool) -> None:
    parts = {str(number): replace(PARTS, storage=storage) for number, storage in enumerate(storages)}
    assert spanning.share_storage(parts) is is_shared


def test_a_slow_network_is_refused_for_tensor_parallelism_and_priced_for_stages() -> None:
    wide = spanning.plans(KIMI, {"a": pod("h200", 8), "b": pod("h200", 8)}, CATALOG)["a"]
    piped = spanning.plans(GLM, {"a": pod("h100", 8), "b": pod("h100", 8)}, CATALOG)["a"]
    with pytest.raises(InputError, match=r"1 Gbit/s and 0\.5 ms between a and b, it needs 10 Gbit/s"):
        spanning.network_notes(wide, "a and b", 1.0, 0.5, 7168)
    assert spanning.network_notes(wide, "a and b", 100.0, 0.1, 7168) == [
        "network: 100 Gbit/s and 0.1 ms between a and b"
    ]
    [note] = spanning.network_notes(piped, "a and b", 0.1, 2.0, 5120)
    assert "each token waits 2 ms" in note and "a prompt of 8000 tokens 6.6 s" in note
    assert "waits" not in spanning.network_notes(piped, "a and b", 25.0, 0.1, None)[0]


def test_a_model_that_no_single_pod_holds_is_proposed_to_equal_pods() -> None:
    facts = pod("h100", 8)
    pods = {
        name: Pod(name, "ssh x", gpus)
        for name, gpus in (("a", facts.gpus), ("l4", pod("l4", 8).gpus), ("b", facts.gpus))
    }
    assert spanning.proposal(GLM, "a", facts, pods, CATALOG) == "a,b"
    assert spanning.proposal(GLM, "a", facts, {"a": pods["a"], "l4": pods["l4"]}, CATALOG) is None
    tiny = {name: Pod(name, "ssh x", pod("l4", 1).gpus) for name in "abc"}
    assert spanning.proposal(KIMI, "a", pod("l4", 1), tiny, CATALOG) is None
    assert spanning.proposal(GLM, "a", cpu_pod(), pods, CATALOG) is None


def test_the_ranks_meet_at_a_free_port() -> None:
    assert spanning.meeting_port(replace(pod("l4", 1), taken_ports=frozenset({29501, 29502}))) == 29503
