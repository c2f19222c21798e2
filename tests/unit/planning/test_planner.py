"""Plans on pods of real GPUs: choices, errors, and rules for every plan."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.errors import BusyError, InputError, PiError
from pi.model_id import ModelId
from pi.planning import catalog, cpu, planner
from pi.planning.catalog import ModelSpec, Variant
from pi.planning.gpu_kinds import KINDS as PRODUCTS
from pi.planning.overhead import GIB
from pi.planning.placement import GOOD_CONTEXT, USEFUL_CONTEXT, choose
from pi.planning.room import IDLE, groups, slots, without
from pi.planning.types import GpuProcess, LaunchPlan, PodFacts, Request
from pi.pods.gpus import Gpu, parse
from pi.pods.types import Deployment
from pi.vllm.arguments import SHORT, Arguments
from tests.pods import COUNTS, KINDS, busy, cpu_pod, pod

CATALOG = catalog.load()
CONFIGS = Path(__file__).parents[2] / "fixtures" / "configs"
ROOM_GIB = 1e-6
"""Rounding of the sums."""


def plan(
    model: str, facts: PodFacts, *, name: str = "m", vllm: Sequence[str] | None = None, **wishes: Any
) -> LaunchPlan:
    args = None if vllm is None else Arguments.parse(vllm)
    return planner.plan(Request(ModelId(model), name, vllm_args=args, **wishes), facts, CATALOG)


@contextmanager
def rejects(error_id: str, *values: str, kind: type[PiError] = InputError) -> Iterator[None]:
    """Expect an error with this id, whose text contains the values; an InputError has one line."""
    with pytest.raises(kind) as caught:
        yield
    text = caught.value.render()
    assert caught.value.id == error_id, text
    assert [value for value in values if value not in text] == [], text
    assert "\n" not in text or kind is not InputError


def running(name: str, gpus: tuple[int, ...], share: float | None, port: int = 8001) -> Deployment:
    return Deployment(name, "org/other", port, gpus, 4711, memory_share=share)


# ------------------------------------------------------------------------------------------ choices

CHOSEN = {
    "a small model takes one GPU": ("Qwen/Qwen3-8B", pod("h100", 8), "fp8", (0,), ""),
    "the vendor's FP8 first where the card has it": ("Qwen/Qwen3-32B", pod("h100", 2), "fp8", (0,), ""),
    "16 bit where it does not": ("Qwen/Qwen3-32B", pod("a100_80gb", 2), "bf16", (0,), ""),
    "weight-only FP8 if 16 bit does not fit": (
        *("MiniMaxAI/MiniMax-M2.5", pod("a100_80gb", 4), "fp8", (0, 1, 2, 3)),
        "-tp 4",
    ),
    "a pair of GPUs in three stages": (
        *("zai-org/GLM-4.6", pod("h100", 6), "fp8", (0, 1, 2, 3, 4, 5)),
        "-tp 2 -pp 3",
    ),
    "three GPUs as three stages": ("zai-org/GLM-4.6", pod("h200", 3), "fp8", (0, 1, 2), "-pp 3"),
    "no stages where tensor parallelism is enough": (
        *("zai-org/GLM-4.6", pod("h200", 7), "fp8", (0, 1, 2, 3)),
        "-tp 4",
    ),
    "a small card gets lighter weights": ("Qwen/Qwen3-32B", pod("rtx_4090", 1), "awq", (0,), ""),
    "FP8 where the hardware supports it": ("Qwen/Qwen3-32B", pod("l40s", 1), "fp8", (0,), ""),
    "no FP8 where it does not": ("Qwen/Qwen3-32B", pod("a6000", 1), "awq", (0,), ""),
    "FP4 on Blackwell": ("nvidia/MiniMax-M2.7-NVFP4", pod("b200", 8), "nvfp4", (0,), ""),
    "a checkpoint named by its id is taken as it is": ("Qwen/Qwen3-32B-FP8", pod("h200", 2), "fp8", (0,), ""),
    "a tested layout may need less than the minimum": ("openai/gpt-oss-120b", pod("h100", 1), "mxfp4", (0,), ""),
    "blocks of FP8 weights limit tensor parallelism": (
        "MiniMaxAI/MiniMax-M2",
        pod("h100", 8),
        "fp8",
        (0, 1, 2, 3),
        "-tp 4",
    ),
    "a recipe's replicas with the experts spread": (
        *("Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8", pod("h20", 8), "fp8", tuple(range(8))),
        "-tp 4 -dp 2 -ep",
    ),
    "a tested layout that holds the model well": (
        *("Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8", pod("h200", 8), "fp8", (0, 1, 2, 3)),
        "-tp 4",
    ),
}


@pytest.mark.parametrize(("model", "facts", "variant", "gpus", "sizes"), CHOSEN.values(), ids=CHOSEN)
def test_plan_chooses(model: str, facts: PodFacts, variant: str, gpus: tuple[int, ...], sizes: str) -> None:
    made = plan(model, facts)
    short = {long: option for option, long in SHORT.items() if option in ("-tp", "-pp", "-dp")}
    parallel = [f"{short[long]} {value}" for long in short if (value := made.args.get(long))]
    parallel += ["-ep"] if "--enable-expert-parallel" in made.args else []
    assert (made.variant, made.gpus, " ".join(parallel)) == (variant, gpus, sizes)


def test_plan_contains_everything_that_start_needs() -> None:
    made = plan("Qwen/Qwen3-32B", busy(pod("h100", 1), 0, 0), variant="fp8")
    assert made.model == "Qwen/Qwen3-32B-FP8"
    assert made.served_names == ("Qwen/Qwen3-32B-FP8", "Qwen/Qwen3-32B", "m")
    assert made.args.words == (
        *("--gpu-memory-utilization", "0.92"),
        *("--max-model-len", "auto"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--reasoning-parser", "qwen3"),
        *("--max-num-seqs", "80"),
    )
    assert made.env == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"}
    assert (made.port, made.context, made.memory_share, made.api) == (8001, 40960, 0.92, "chat")
    assert (made.min_vllm, made.download_gb) == ("0.8.5", 32.0)
    assert made.memory is not None and made.memory.fits
    assert made.why[0] == "Qwen/Qwen3-32B-FP8: 29.8 GB of fp8 weights"
    assert "vLLM's hermes parser reads its tool calls" in made.why


def test_plan_explains_smaller_weights() -> None:
    assert plan("Qwen/Qwen3-Coder-30B-A3B-Instruct", pod("rtx_4090", 1)).why[0] == (
        "cyankiwi/Qwen3-Coder-30B-A3B-Instruct-AWQ-4bit: 16.8 GB of int4 weights, because 29 GB of fp8 leave no room for"
        " a useful context"
    )
    no_fp8 = plan("MiniMaxAI/MiniMax-M3", replace(pod("b200", 2), vllm_version=None), variant="nvfp4")
    assert no_fp8.variant == "nvfp4"


def test_flags_change_the_plan() -> None:
    made = plan("Qwen/Qwen3-8B", pod("h100", 4), gpus=2, memory=0.5, context=8192)
    assert made.gpus == (0, 1)
    assert made.args.get("--gpu-memory-utilization") == "0.5"
    assert made.args.get("--max-model-len") == "8192"
    assert (made.context, made.memory_share) == (8192, 0.5)


def test_plan_says_how_weights_are_computed() -> None:
    fp8 = plan("MiniMaxAI/MiniMax-M2.5", pod("a100_80gb", 4)).why[0]
    assert fp8 == "MiniMaxAI/MiniMax-M2.5: 214 GB of fp8 weights, computed in 16 bit on A100 80GB"
    bf16 = plan("Qwen/Qwen3-1.7B", pod("t4", 1)).why[0]
    assert bf16 == "Qwen/Qwen3-1.7B: 3.91 GB of bf16 weights, computed in FP16 on T4"


def test_gpus_that_do_not_divide_heads_become_pipeline_stages() -> None:
    made = plan("moonshotai/Kimi-Linear-48B-A3B-Instruct", pod("h100", 8), gpus=3)
    assert (made.split.tensor, made.split.pipeline) == (1, 3)
    five = plan("mistralai/Mistral-Small-4-119B-2603", pod("h200", 8), gpus=5)
    assert (five.split.tensor, five.split.pipeline) == (1, 5)


def test_model_without_pipeline_stages_is_never_split_into_them() -> None:
    with rejects("does-not-fit", "24 attention heads", "3 GPUs"):
        plan("microsoft/Phi-4-multimodal-instruct", pod("h100", 8), gpus=3)


def test_idle_gpus_are_named_with_the_flags_that_use_them() -> None:
    why = plan("Qwen/Qwen3-32B", pod("h100", 4)).why
    assert "GPU 1, 2, 3 stay idle; --gpus 4 or --for-throughput uses 4 GPUs" in why
    assert not [reason for reason in plan("Qwen/Qwen3-32B", pod("h100", 4), gpus=2).why if "idle" in reason]
    assert not [reason for reason in plan("Qwen/Qwen3-32B", pod("h100", 1)).why if "idle" in reason]
    stays = plan("microsoft/Phi-4-multimodal-instruct", pod("rtx_4090", 2), for_throughput=True, memory=0.9)
    assert stays.gpus == (0, 1)
    odd = plan("microsoft/Phi-4-multimodal-instruct", pod("rtx_4090", 3), for_throughput=True)
    assert (odd.gpus, "GPU 2 stays idle: the model cannot be split over 3 GPUs" in odd.why) == ((0, 1), True)


@pytest.mark.parametrize(
    ("model", "facts", "gpus", "split"),
    [
        ("Qwen/Qwen3-32B", pod("h100", 8), 8, (8, 1, 1, False)),
        ("Qwen/Qwen3-32B", pod("h100", 6), 6, (2, 3, 1, False)),
        ("deepseek-ai/DeepSeek-V4-Flash", pod("h200", 8), 8, (1, 1, 8, True)),
        ("deepseek-ai/DeepSeek-V3.2", pod("h200", 8), 8, (1, 1, 8, True)),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", pod("h200", 8), 8, (4, 1, 2, True)),
        ("Qwen/Qwen3-8B", replace(pod("h100", 4), deployments=(running("a", (0,), 0.3),)), 3, (1, 3, 1, False)),
    ],
)
def test_throughput_takes_all_idle_gpus(
    model: str, facts: PodFacts, gpus: int, split: tuple[int, int, int, bool]
) -> None:
    made = plan(model, facts, for_throughput=True)
    found = (made.split.tensor, made.split.pipeline, made.split.data, made.split.expert)
    assert (len(made.gpus), found) == (gpus, split)
    assert any("all that are idle, for throughput" in reason for reason in made.why)


def test_throughput_of_an_unknown_model_divides_its_heads() -> None:
    config = {**CONFIG, "num_attention_heads": 28, "num_key_value_heads": 4}
    facts = replace(pod("h100", 8), config=config, weights_bytes=15 * 10**9)
    made = plan("org/model", facts, for_throughput=True)
    assert (len(made.gpus), made.args.get("--tensor-parallel-size")) == (8, "4")
    unsized = replace(pod("h100", 8), config=config)
    assert plan("org/model", unsized, for_throughput=True).gpus == (0, 1, 2, 3)


def test_slice_of_a_gpu_serves_a_model_alone() -> None:
    row = "{}, NVIDIA H100 80GB HBM3, 81559, 1, GPU-b8a1abcd-1a69-16c7-4da4-f9fc3c6da5d7, 9.0, 570.133.20"
    listing = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-b8a1abcd-1a69-16c7-4da4-f9fc3c6da5d7)"
    slices = [f"  MIG 3g.40gb  Device  {n}: (UUID: MIG-377e0049-554c-540b-93c6-d0976f8426c{n})" for n in range(2)]
    two = PodFacts(tuple(parse("\n".join([row.format(0), listing, *slices]))[0]), vllm_version="0.32.0")
    made = plan("Qwen/Qwen3-8B", two)
    assert made.env["CUDA_VISIBLE_DEVICES"] == "MIG-377e0049-554c-540b-93c6-d0976f8426c0"
    assert not [reason for reason in made.why if "idle" in reason]
    with rejects("does-not-fit"):
        plan("Qwen/Qwen3-8B", two, gpus=2)
    one = PodFacts(tuple(parse("\n".join([row.format(0), listing, slices[0]]))[0]), vllm_version="0.32.0")
    assert plan("Qwen/Qwen3-8B", one).env["CUDA_VISIBLE_DEVICES"] == "0"
    assert plan("openai/gpt-oss-120b", pod("h100", 1)).why[2].startswith("tested on 1")
    with rejects("does-not-fit", "60.8 GB of mxfp4 weights"):
        plan("openai/gpt-oss-120b", one)


def test_tensor_parallelism_between_pods_warns_of_their_network() -> None:
    made = plan("Qwen/Qwen3-32B", pod("rtx_4090", 1, nodes=2))
    assert made.split.tensor == 2
    assert [warning for warning in made.warnings if "Over Ethernet" in warning]
    piped = plan("zai-org/GLM-4.6", pod("h100", 8, nodes=2))
    assert not [warning for warning in piped.warnings if "Ethernet" in warning]


def test_old_gpu_gets_no_arguments_of_newer_ones() -> None:
    t4 = plan("Qwen/Qwen3-Next-80B-A3B-Instruct", pod("t4", 8), variant="nvfp4")
    assert t4.args.get("--kv-cache-dtype") == "auto"
    a100 = plan("Qwen/Qwen3-Next-80B-A3B-Instruct", pod("a100", 8), variant="nvfp4")
    assert a100.args.get("--kv-cache-dtype") == "fp8"
    latent = plan("deepseek-ai/DeepSeek-V3.1", pod("a100_80gb", 8), variant="nvfp4")
    assert latent.args.get("--kv-cache-dtype") == "auto"


def test_model_id_ignores_case() -> None:
    assert plan("qwen/qwen3-8b", pod("h100", 1), variant="BF16").model == "Qwen/Qwen3-8B"


def test_gpt_oss_uses_the_responses_api() -> None:
    assert plan("openai/gpt-oss-20b", pod("l4", 1)).api == "responses"


def test_trust_remote_code_gives_a_warning() -> None:
    made = plan("moonshotai/Kimi-Linear-48B-A3B-Instruct", pod("h200", 1))
    assert "--trust-remote-code" in made.args
    assert any("--trust-remote-code" in warning for warning in made.warnings)
    assert plan("Qwen/Qwen3-8B", pod("h200", 1)).warnings == ()


def test_old_vllm_gets_a_number_instead_of_auto() -> None:
    made = plan("Qwen/Qwen3-8B", replace(pod("h100", 1), vllm_version="0.12.0"))
    assert made.args.get("--max-model-len") == "40960"


def test_model_that_vllm_dropped_is_rejected() -> None:
    with rejects("vllm-too-new", "vLLM 0.26.0 or older", "0.32.0"):
        plan("pfnet/plamo-2-translate", pod("h100", 1))


def test_sixteen_gpus_span_two_pods() -> None:
    made = plan("moonshotai/Kimi-K2-Instruct", pod("h200", 8, nodes=2))
    assert (made.nodes, made.split.gpus, made.gpus) == (2, 16, tuple(range(8)))
    assert made.args.get("--tensor-parallel-size") == "16"
    assert made.args.get("--nnodes") == "2"
    piped = plan("zai-org/GLM-4.6", pod("h100", 8, nodes=2))
    assert (piped.split.tensor, piped.split.pipeline) == (8, 2)


# ----------------------------------------------------------------------------------- GPUs that are in use


def test_plan_takes_a_free_port() -> None:
    facts = replace(pod("h100", 8), taken_ports=frozenset({8001, 8003}), deployments=(running("a", (0,), 0.9, 8002),))
    assert plan("Qwen/Qwen3-8B", facts).port == 8004


def test_plan_takes_the_least_used_gpu() -> None:
    facts = replace(pod("h100", 4), deployments=(running("a", (0,), 0.3), running("b", (1,), 0.2)))
    assert plan("Qwen/Qwen3-8B", facts).gpus == (2,)
    assert plan("Qwen/Qwen3-8B", busy(facts, 2, 60_000)).gpus == (3,)


def test_gpus_of_other_processes_are_used() -> None:
    facts = busy(busy(pod("h100", 3), 0, 40_000), 1, 20_000)
    assert plan("Qwen/Qwen3-8B", facts).gpus == (2,)
    assert [slot.gpu.id for slot in slots(facts)] == [2, 1, 0]


def test_gpu_is_shared_up_to_95_percent() -> None:
    facts = replace(pod("h100", 1), deployments=(running("a", (0,), 0.5),))
    made = plan("Qwen/Qwen3-8B", facts)
    assert made.memory_share == 0.45
    assert made.args.get("--gpu-memory-utilization") == "0.45"
    assert "45% of each GPU's memory, next to a" in made.why
    with rejects("gpus-busy", "GPU 0: 50% held by a", kind=BusyError):
        plan("Qwen/Qwen3-8B", facts, memory=0.5)


def test_model_with_unknown_share_has_the_whole_gpu() -> None:
    facts = replace(pod("h100", 1), deployments=(running("raw", (0,), None),))
    with rejects("gpus-busy", "GPU 0: held by raw\n  pi stop raw makes room", kind=BusyError):
        plan("Qwen/Qwen3-1.7B", facts)


def test_busy_hint_names_only_what_makes_room() -> None:
    """A third of an L40S is too small for 32 GB, and so is half of one."""
    facts = busy(pod("l40s", 2), 0, 30_000)
    facts = replace(facts, deployments=(running("a", (1,), 0.45), running("b", (1,), 0.45, 8002)))
    hint = "\n  stop more than one of a, b (pi stop NAME)"
    with rejects("gpus-busy", f"GPU 1: 90% held by a, b{hint}", kind=BusyError):
        plan("Qwen/Qwen3-32B", facts, variant="fp8")
    hint = "\n  GPU 0 has 33% free (--memory 33%), or pi stop a makes room"
    with rejects("gpus-busy", hint, kind=BusyError):
        plan("Qwen/Qwen3-1.7B", facts, memory=0.5)


def test_stopped_model_frees_its_memory() -> None:
    facts = replace(busy(pod("h100", 1), 0, 60_000), deployments=(running("a", (0,), 0.5),))
    assert without(facts, "a").gpus[0].used_mib == 60_000 - int(0.5 * 81559)
    reported = replace(facts, processes=(GpuProcess(7, 0, 59_000, "a"), GpuProcess(8, 0, 900)))
    assert without(reported, "a").gpus[0].used_mib == 1_000
    assert without(reported, "a").deployments == ()


def test_memory_of_other_processes_is_reported() -> None:
    with rejects("gpus-busy", "GPU 0: 78.1 of 79.6 GB in use (not by pi)", kind=BusyError):
        plan("Qwen/Qwen3-8B", busy(pod("h100", 1), 0, 80_000))


def test_name_in_use_is_rejected() -> None:
    with rejects("name-taken", "m already runs", "pi stop m", kind=BusyError):
        plan("Qwen/Qwen3-8B", replace(pod("h100", 8), deployments=(running("m", (0,), 0.9),)))


# ------------------------------------------------------------------------------------- errors

IMPOSSIBLE: dict[str, tuple[str, PodFacts, dict[str, Any], str, tuple[str, ...]]] = {
    "weights that cannot fit, with the sum and larger pods": (
        *("Qwen/Qwen3-235B-A22B-Instruct-2507", pod("rtx_4090", 2), {}, "does-not-fit"),
        ("122 GB of nvfp4 weights do not fit into 92% of the 48 GB of 2x GeForce RTX 4090; it fits on ",),
    ),
    "a variant that is too large, and one that is not": (
        *("Qwen/Qwen3-32B", pod("rtx_4090", 1), {"variant": "bf16"}, "does-not-fit"),
        (
            "61 GB of bf16 weights do not fit into 92% of the 24 GB of 1x GeForce RTX 4090",
            "it fits here with --variant awq",
        ),
    ),
    "a share that is too small": (
        *("Qwen/Qwen3-32B", pod("h100", 1), {"variant": "bf16", "memory": 0.5}, "does-not-fit"),
        ("do not fit into 50% of the 80 GB of 1x H100 80GB HBM3", "it fits here with --variant fp8"),
    ),
    "a context that does not fit": (
        *("meta-llama/Llama-3.3-70B-Instruct", pod("a100_80gb", 4)),
        *({"context": 131072, "gpus": 2, "variant": "bf16"}, "does-not-fit"),
        ("on 2 GPUs", "KV cache for 131072 tokens", "it fits here with --"),
    ),
    "a context beyond the model's": (
        *("Qwen/Qwen3-8B", pod("h100", 1), {"context": 65536}, "context-too-long"),
        ("--context 40960",),
    ),
    "heads that cannot be split": (
        *("microsoft/Phi-4-multimodal-instruct", pod("h100", 3), {"gpus": 3}, "does-not-fit"),
        ("24 attention heads", "3 GPUs; it fits here with --gpus 1"),
    ),
    "more GPUs than the pod has": ("Qwen/Qwen3-8B", pod("h100", 2), {"gpus": 4}, "too-many-gpus", ("4", "2 GPUs")),
    "an unknown variant": ("Qwen/Qwen3-8B", pod("h100", 1), {"variant": "fp3"}, "unknown-variant", ("fp3", "bf16")),
    "a format that the GPU does not support": (
        *("openai/gpt-oss-20b", pod("t4", 1), {}, "does-not-fit"),
        ("Tesla T4 does not support MXFP4; it fits on ",),
    ),
    "kernels that only newer GPUs have": (
        *("nvidia/MiniMax-M3-NVFP4", pod("a100_80gb", 8), {}, "does-not-fit"),
        ("does not support NVFP4",),
    ),
    "an attention that the GPU does not have": (
        *("zai-org/GLM-5", pod("a100_80gb", 8), {}, "does-not-fit"),
        ("it needs a GPU of compute capability 9.0, A100-SXM4-80GB has 8.0",),
    ),
    "a GPU that vLLM no longer supports": (
        *("Qwen/Qwen3-8B", pod("v100", 1), {}, "gpus-too-old"),
        ("vLLM does not run on 1x Tesla V100-SXM2-32GB (compute capability 7.0): it needs 7.5 or newer",),
    ),
    "AMD GPUs": ("Qwen/Qwen3-8B", PodFacts((), device="amd"), {}, "amd-gpus", ("AMD GPUs",)),
    "--for-throughput with --gpus": (
        *("Qwen/Qwen3-8B", pod("h100", 2), {"gpus": 2, "for_throughput": True}, "flags-conflict"),
        ("--for-throughput and --gpus",),
    ),
    "--for-throughput without a GPU": (
        *("Qwen/Qwen3-8B", cpu_pod(), {"for_throughput": True}, "no-gpu"),
        ("remove --for-throughput",),
    ),
    "no GPU": ("Qwen/Qwen3-8B", PodFacts(()), {}, "does-not-fit", ("the pod has no GPU",)),
    "a name with a path in it": ("Qwen/Qwen3-8B", pod("h100", 1), {"name": "../x"}, "name-invalid", ("../x",)),
    "a variant outside the catalog": (
        *("org/model", pod("h100", 1), {"variant": "fp8"}, "no-variants"),
        ("org/model",),
    ),
    "--vllm with --context": (
        *("org/model", pod("h100", 1), {"vllm": (), "context": 4096}, "flags-conflict"),
        ("--context",),
    ),
}


@pytest.mark.parametrize(("model", "facts", "wishes", "error_id", "values"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_plan_rejects(
    model: str, facts: PodFacts, wishes: dict[str, Any], error_id: str, values: tuple[str, ...]
) -> None:
    with rejects(error_id, *values):
        plan(model, facts, **wishes)


@pytest.mark.parametrize("model", ["zai-org/GLM-4.6", "Qwen/Qwen3-Coder-30B-A3B-Instruct", "zai-org/GLM-4.5-Air"])
@pytest.mark.parametrize("kind", ["h100", "rtx_4090", "t4"])
def test_pods_in_an_error_do_hold_the_model(model: str, kind: str) -> None:
    try:
        plan(model, pod(kind, 1))
        return
    except InputError as error:
        pods = re.findall(r"(\d+)x ([^;]+?)(?: or |$)", error.hint or "")
    assert pods
    for count, title in pods:
        product = next(product for product in PRODUCTS if product.title == title)
        assert int(count) in product.rented
        gpu = Gpu(0, product.title, product.memory_mib, compute_capability=product.capability)
        rented = PodFacts(tuple(replace(gpu, id=n) for n in range(int(count))), vllm_version="0.32.0")
        made = plan(model, rented)
        assert (made.context or 0) >= USEFUL_CONTEXT


def test_hint_for_the_same_kind_is_the_smallest_pod() -> None:
    with rejects("does-not-fit", "it fits on 3x H100 80GB or "):
        plan("zai-org/GLM-4.6", pod("h100", 1))
    assert len(plan("zai-org/GLM-4.6", pod("h100", 3)).gpus) == 3


# --------------------------------------------------------------------------------------- outside the catalog

CONFIG = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
}


def test_unknown_model_gets_one_gpu() -> None:
    made = plan("org/model", pod("h100", 4))
    assert made.gpus == (0,)
    assert made.args.words == ("--gpu-memory-utilization", "0.92", "--max-model-len", "auto", "--max-num-seqs", "64")
    assert made.served_names == ("org/model", "m")
    assert (made.memory, made.download_gb) == (None, None)


def test_model_of_unknown_size_gets_the_default_share() -> None:
    facts = replace(pod("h100", 1), deployments=(running("a", (0,), 0.5),))
    with rejects("gpus-busy", "92%", "GPU 0: 50% held by a", kind=BusyError):
        plan("org/model", facts)
    assert plan("org/model", facts, memory=0.45).memory_share == 0.45


def test_name_without_owner_suggests_the_whole_id() -> None:
    with rejects("unknown-model", "'qwen3-8b'; did you mean Qwen/Qwen3-8B?"):
        plan("qwen3-8b", pod("h100", 1))
    assert plan("org/qwen3-8b", pod("h100", 1)).model == "org/qwen3-8b"


def test_gpus_of_unknown_model_are_tensor_parallel() -> None:
    made = plan("/root/models/x", pod("h100", 4), gpus=2)
    assert made.args.words[:2] == ("--tensor-parallel-size", "2")


def test_unknown_model_has_a_memory_sum() -> None:
    facts = replace(pod("rtx_4090", 2), config=CONFIG, weights_bytes=16_060_000_000)
    memory = plan("org/model-8b", facts, context=16384).memory
    assert memory is not None
    assert memory.weights_gib == pytest.approx(16.06e9 / GIB)
    block = 16 * 32 * 8 * 128 * 2 * 2
    assert memory.kv_cache_gib == (16384 * 32 * 8 * 128 * 2 * 2 + block) / GIB
    with rejects("does-not-fit", "15.0 weights", "--memory"):
        plan("org/model-8b", facts, memory=0.65, gpus=1)


def test_unknown_model_gets_the_gpus_that_it_needs() -> None:
    facts = replace(pod("rtx_4090", 4), config=CONFIG, weights_bytes=64_000_000_000)
    made = plan("org/model-32b", facts)
    assert (made.gpus, made.args.get("--tensor-parallel-size"), made.estimated) == ((0, 1, 2, 3), "4", False)
    with rejects("does-not-fit", "59.6 GB of bf16 weights", "it fits here with --gpus 4"):
        plan("org/model-32b", facts, gpus=2)


def test_unknown_model_keeps_its_limits() -> None:
    facts = replace(pod("h100", 3), config=CONFIG)
    with rejects("heads-not-divisible", "32 attention heads", "--gpus 1 or 2"):
        plan("org/model", facts, gpus=3)
    with rejects("context-too-long", "--context 131072"):
        plan("org/model", facts, context=262144)


RAW = {
    "nothing: one whole GPU": ((), (0,), None),
    "a share": (("--gpu-memory-utilization", "0.4"), (0,), 0.4),
    "a share above the limit for shared GPUs": (("--gpu-memory-utilization=0.97",), (0,), 0.97),
    "parallel sizes": (("-tp", "2", "--pipeline-parallel-size=2"), (0, 1, 2, 3), None),
}


@pytest.mark.parametrize(("args", "gpus", "share"), RAW.values(), ids=RAW)
def test_raw_arguments_choose_gpus(args: tuple[str, ...], gpus: tuple[int, ...], share: float | None) -> None:
    made = plan("Qwen/Qwen3-8B", pod("h100", 4), vllm=args)
    assert (made.args.words, made.gpus, made.memory_share, made.model) == (args, gpus, share, "Qwen/Qwen3-8B")


def test_raw_sizes_beyond_the_pod_are_rejected() -> None:
    with rejects("too-many-gpus", "8 GPUs", "4"):
        plan("Qwen/Qwen3-8B", pod("h100", 4), vllm=("--data-parallel-size", "8"))


def test_raw_arguments_are_checked() -> None:
    with rejects("raw-argument-owned", "--port"):
        plan("Qwen/Qwen3-8B", pod("h100", 4), vllm=("--port", "1"))


# ------------------------------------------------------------------------------------------------- on a CPU


def test_unknown_model_on_a_cpu() -> None:
    made = plan("/root/models/smollm2", cpu_pod(24, 2))
    assert made.args.words == ("--enforce-eager", "--max-model-len", "auto", "--max-num-seqs", "4")
    assert made.env == {"VLLM_CPU_OMP_THREADS_BIND": "0-1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    assert (made.gpus, made.memory_share) == ((), None)
    modest = plan("/root/models/smollm2", replace(cpu_pod(24, 1), config=CONFIG))
    assert modest.args.get("--max-model-len") == "4096"
    assert modest.env["VLLM_CPU_OMP_THREADS_BIND"] == "0"


def test_memory_on_a_cpu_is_passed_to_vllm() -> None:
    made = plan("/root/models/smollm2", cpu_pod(24, 2), memory=0.3)
    assert made.args.get("--gpu-memory-utilization") == "0.3"
    assert "VLLM_CPU_KVCACHE_SPACE" not in made.env
    raw = plan("/root/models/smollm2", cpu_pod(24, 2), vllm=("--gpu-memory-utilization", "0.3"))
    assert "VLLM_CPU_KVCACHE_SPACE" not in raw.env
    assert plan("/x", cpu_pod(24, 2), vllm=()).env["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_catalog_model_on_a_cpu() -> None:
    made = plan("HuggingFaceTB/SmolLM2-135M-Instruct", cpu_pod(24, 2))
    assert (made.context, made.download_gb) == (4096, 0.269)
    assert plan("Qwen/Qwen3-1.7B", cpu_pod(24, 2), context=40960).env["VLLM_CPU_KVCACHE_SPACE"] == "5"
    with rejects("does-not-fit", "42.2 GB", "21.6 GB"):
        plan("meta-llama/Llama-3.3-70B-Instruct", cpu_pod(24, 2), context=4096)
    with rejects("no-cpu-weights"):
        plan("MiniMaxAI/MiniMax-M2.1", cpu_pod(24, 2))
    with rejects("no-gpu", "--gpus"):
        plan("Qwen/Qwen3-1.7B", cpu_pod(24, 2), gpus=1)


def test_kv_space_of_a_cpu() -> None:
    assert [cpu.kv_space_gib(cpu_pod(gib)) for gib in (4, 24, 48, 512)] == [1, 1, 3, 4]


# --------------------------------------------------------------------------------- rules for every plan

MODELS = st.sampled_from([spec.id for spec in CATALOG.models])
SHARES = st.sampled_from([None, 0.1, 0.25, 0.45, 0.5, 0.9])


@st.composite
def pods(draw: st.DrawFn) -> PodFacts:
    """Generate pods of one or two kinds, with pi's models and memory of other processes."""
    cards: list[Gpu] = []
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=2, unique=True)):
        for gpu in pod(kind, draw(st.sampled_from(COUNTS))).gpus:
            used = draw(st.sampled_from([0, 0, 0, gpu.memory_mib // 3, gpu.memory_mib - 1]))
            cards.append(replace(gpu, id=len(cards), used_mib=used))
    ids = st.lists(st.sampled_from(range(len(cards))), min_size=1, max_size=4, unique=True)
    deployments: list[Deployment] = []
    for number in range(draw(st.integers(0, 3))):
        where = tuple(draw(ids))
        share = draw(SHARES)
        taken = [sum(d.memory_share or 1 for d in deployments if gpu in d.gpus) for gpu in where]
        if max(taken) + (share or 1) <= 1:
            deployments.append(running(f"d{number}", where, share, 8001 + number))
    return PodFacts(tuple(cards), deployments=tuple(deployments), vllm_version="0.32.0")


def _plan_or_none(request: Request, facts: PodFacts) -> LaunchPlan | None:
    try:
        return planner.plan(request, facts, CATALOG)
    except PiError:
        return None


@given(MODELS, pods(), SHARES, st.sampled_from([None, 1, 2, 4]), st.sampled_from([None, 4096, 32768]))
def test_plans_never_overfill_a_gpu(
    model: ModelId, facts: PodFacts, memory: float | None, gpus: int | None, context: int | None
) -> None:
    made = _plan_or_none(Request(model, "m", gpus=gpus, memory=memory, context=context), facts)
    if made is None:
        return
    assert made.memory is not None and made.memory_share is not None
    assert made.memory.needed_gib <= made.memory.allowed_gib + ROOM_GIB
    assert made.split.gpus == len(set(made.gpus)) == len(made.gpus)
    by_id = {gpu.id: gpu for gpu in facts.gpus}
    assert len({(by_id[i].name, by_id[i].memory_mib) for i in made.gpus}) == 1
    for index in made.gpus:
        gpu = by_id[index]
        others = [d.memory_share for d in facts.deployments if index in d.gpus]
        assert None not in others
        assert sum(share or 0 for share in others) + made.memory_share <= 0.95 + 1e-9
        assert made.memory_share * gpu.memory_mib <= gpu.free_mib
    assert made.args.get("--gpu-memory-utilization") == f"{made.memory_share:g}"


@given(MODELS, pods())
def test_plans_are_stable(model: ModelId, facts: PodFacts) -> None:
    request = Request(model, "m")
    turned = replace(facts, gpus=facts.gpus[::-1], deployments=facts.deployments[::-1])
    made = _plan_or_none(request, facts)
    assert made == _plan_or_none(request, facts)
    if len({gpu.name for gpu in facts.gpus}) == 1:
        assert made == _plan_or_none(request, turned)


@given(MODELS, st.sampled_from(KINDS), st.sampled_from(COUNTS), st.floats(1.0, 8.0), SHARES)
def test_model_fits_on_gpus_with_more_memory(
    model: ModelId, kind: str, count: int, times: float, memory: float | None
) -> None:
    facts = pod(kind, count)
    more = tuple(replace(gpu, memory_mib=int(gpu.memory_mib * times)) for gpu in facts.gpus)
    request = Request(model, "m", memory=memory)
    if _plan_or_none(request, facts):
        assert _plan_or_none(request, replace(facts, gpus=more))


@given(MODELS, st.sampled_from(KINDS), st.sampled_from([(1, 2), (2, 4), (4, 8), (1, 8)]))
def test_model_fits_on_more_gpus(model: ModelId, kind: str, counts: tuple[int, int]) -> None:
    few, many = counts
    if _plan_or_none(Request(model, "m"), pod(kind, few)):
        assert _plan_or_none(Request(model, "m"), pod(kind, many))


@given(MODELS, pods())
def test_model_that_fits_now_fits_the_idle_pod(model: ModelId, facts: PodFacts) -> None:
    unused = replace(facts, deployments=(), gpus=tuple(replace(gpu, used_mib=0) for gpu in facts.gpus))
    if _plan_or_none(Request(model, "m"), facts):
        assert _plan_or_none(Request(model, "m"), unused)


@given(MODELS | st.just(ModelId("org/unknown")), pods(), SHARES, st.sampled_from([None, 1, 2, 4]))
def test_hints_of_busy_pods_are_right(model: ModelId, facts: PodFacts, memory: float | None, gpus: int | None) -> None:
    request = Request(model, "m", gpus=gpus, memory=memory)
    try:
        planner.plan(request, facts, CATALOG)
        return
    except BusyError as error:
        hint = error.hint or ""
    except InputError:
        return
    fewer, less = re.search(r"\(--gpus (\d+)\)", hint), re.search(r"\(--memory (\d+)%\)", hint)
    alone, several = re.search(r"pi stop (\S+) makes room", hint), re.search(r"stop more than one of (.*) \(pi", hint)
    assert fewer or less or alone or several or hint == "wait until those processes exit"
    if fewer:
        assert planner.plan(replace(request, gpus=int(fewer[1])), facts, CATALOG)
    if less:
        assert planner.plan(replace(request, memory=int(less[1]) / 100), facts, CATALOG)
    if alone:
        assert planner.plan(request, without(facts, alone[1]), CATALOG)
    if several:
        assert planner.plan(request, without(facts, *several[1].split(", ")), CATALOG)
        assert not any(_plan_or_none(request, without(facts, name)) for name in several[1].split(", "))


def test_gpu_below_the_idle_limit_is_free() -> None:
    used = int(81559 * IDLE) - 1
    assert not slots(busy(pod("h100", 1), 0, used))[0].busy


# ------------------------------------------------------------------------------ comparison with the recipes

RECIPES = json.loads((Path(__file__).parents[2] / "fixtures" / "recipes.json").read_text())["recipes"]

RENAMED = {"Qwen/Qwen3-235B-A22B-FP8": "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8"}
"""Ids in the recipes that belong to another model's checkpoint."""

HEAVIER = {
    ("moonshotai/Kimi-K2-Thinking", "h200"): "585 GB of weights leave no room for a KV cache in 600 GB",
    ("thinkingmachines/Inkling-Small-NVFP4", "b200"): "its recipe serves it on two B200 too",
    ("thinkingmachines/Inkling-Small", "h200"): "its recipe serves it on eight H200 too",
}
"""More GPUs than the minimum, for a reason other than a good context."""

FULL = 0.8
"""Part of the GPUs' memory that measured files fill if a recipe's minimum leaves no room for a KV cache."""


def _entry(recipe: dict[str, object]) -> tuple[ModelSpec, Variant]:
    wanted = RENAMED.get(str(recipe["id"]), recipe["id"])
    same = [(s, v) for s in CATALOG.models for v in s.variants if v.id == wanted]
    return min(same, key=lambda entry: abs(entry[1].minimum_gb - float(str(recipe["minimum_gb"]))))


def test_planner_against_the_recipes_minimum() -> None:
    figures: Counter[str] = Counter()
    odd: list[str] = []
    for recipe in RECIPES:
        spec, variant = _entry(recipe)
        assert variant.minimum_gb >= recipe["minimum_gb"] or recipe["id"] == "microsoft/Phi-4-reasoning"
        for kind in recipe["verified"] or ["h100", "h200", "b200"]:
            verdict = _compared(spec, variant, kind, recipe)
            figures[verdict] += 1
            if verdict == "unexplained":
                odd.append(f"{variant.id} on {kind}")
    print(dict(figures))
    assert odd == []
    by_sum = figures["fewer, by the memory sum"]
    assert figures["more, because the minimum is too small"] <= 25  # five of them for the risk of the sum
    assert figures["as the minimum"] + by_sum > 0.85 * figures.total()
    assert figures["as the minimum"] > by_sum > 0


def _compared(spec: ModelSpec, variant: Variant, kind: str, recipe: dict[str, object]) -> str:
    """Compare the planner's GPUs with the fewest whose memory reaches the recipe's minimum."""
    facts = pod(kind, 8)
    card_gb = facts.gpus[0].memory_mib * 1024**2 / 1e9
    minimum_gb = float(str(recipe["minimum_gb"]))
    least = next((count for count in (1, 2, 4, 8) if count * card_gb >= minimum_gb), None)
    fit = choose(spec, (variant,), Request(spec.id, "m"), groups(facts))
    if fit is None:
        if least is None:
            return "as the minimum"
        if choose(spec, (variant,), Request(spec.id, "m", context=4096), groups(facts)):
            return "too tight to be sure"
        no_format = _message_contains(spec, variant, facts, "does not support")
        return "the GPU does not support the format" if no_format else "unexplained"
    if fit.split.gpus * card_gb < minimum_gb:
        return "fewer, by the memory sum" if (fit.layout or spec.layers) and fit.memory.fits else "unexplained"
    if least is None or fit.split.gpus <= least:
        return "as the minimum"
    fewer = choose(spec, (variant,), Request(spec.id, "m", gpus=least), groups(facts))
    if fewer is None or (variant.id, kind) in HEAVIER:
        return "more, because the minimum is too small"
    short = fewer is not None and not fewer.reaches(GOOD_CONTEXT, spec.context)
    return "more, for a good context" if short else "unexplained"


def _message_contains(spec: ModelSpec, variant: Variant, facts: PodFacts, words: str) -> bool:
    with pytest.raises(InputError) as caught:
        planner.plan(Request(spec.id, "m", variant=variant.name), facts, CATALOG)
    return words in caught.value.message


def test_layers_that_the_catalog_lacks_come_from_config_json() -> None:
    model = "openbmb/MiniCPM5-1B"
    entry = CATALOG.find(model)
    assert entry is not None and not entry[0].layers, "choose another model without layers"
    assert planner.needs_files(Request(ModelId(model), "m"), CATALOG)
    assert not planner.needs_files(Request(ModelId("Qwen/Qwen3-8B"), "m"), CATALOG)
    config = json.loads((CONFIGS / "Qwen--Qwen3-1.7B.json").read_text())
    blind, seeing = (
        planner.plan(Request(ModelId(model), "m"), replace(pod("h100", 1), config=each), CATALOG)
        for each in (None, config)
    )
    assert blind.memory and seeing.memory
    assert (blind.memory.kv_tokens, bool(seeing.memory.kv_tokens)) == (None, True)
    assert any(why.startswith("its layers are unknown") for why in blind.why)
    assert not any(why.startswith("its layers are unknown") for why in seeing.why)
