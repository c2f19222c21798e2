"""Terms of the memory sum: what CUDA reports, vLLM's settings, phases of its profile run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pi.planning.cuda_memory import RESERVED_MIB, Card, card_of, usable_mib
from pi.planning.network import Layers, Network, usual_hidden
from pi.planning.overhead import FITTED, GIB, SPARE_GIB, capture_sizes, step_gib, terms
from pi.planning.serving import Serving, default_tokens, serving_of
from pi.planning.split import Split
from pi.pods.gpus import Gpu
from pi.vllm.arguments import Arguments
from tests.pods import KINDS, pod

DENSE = Network((Layers("full", 32, kv_heads=8, key_dim=128, value_dim=128),), 32, 4096, 128256, depth=32)
EXPERTS = replace(DENSE, experts=128)
VISION = replace(DENSE, multimodal=True)
H100 = Card(79.19, 79.19)
SERVING = Serving(tokens=8192)

# ------------------------------------------------------------------------------------------------ cards

LOGGED_GIB = {
    "rtx_4090": 23.52,
    "rtx_5090": 31.36,
    "l4": 22.03,
    "l40s": 44.42,
    "h100": 79.19,
    "h200": 139.8,
    "b200": 178.36,
    "rtx_pro_6000": 94.97,
    "a100_80gb": 79.14,
}


@pytest.mark.parametrize(("kind", "gib"), LOGGED_GIB.items(), ids=LOGGED_GIB)
def test_cuda_reports_less_than_nvidia_smi(kind: str, gib: float) -> None:
    assert card_of(pod(kind, 1).gpus).total_gib == pytest.approx(gib, abs=0.04)


def test_unlisted_and_sliced_gpus_get_the_usual_difference() -> None:
    listed = pod("h100", 1).gpus[0]
    assert listed.memory_mib - usable_mib(listed) == RESERVED_MIB["h100"]
    part = replace(listed, memory_mib=20000)
    assert part.memory_mib - usable_mib(part) == 470
    assert usable_mib(replace(listed, memory_mib=100)) == 0


def test_card_is_the_smallest_and_fullest() -> None:
    first, second = pod("h100", 2).gpus
    card = card_of((first, replace(second, used_mib=40_000)))
    assert card.free_gib == pytest.approx((second.memory_mib - 40_000) / 1024)
    assert not (card.rtx or card.unified or card.a100 or card.sorts)


def test_kinds_with_their_own_terms() -> None:
    cards = {kind: card_of(pod(kind, 1).gpus) for kind in KINDS}
    assert {kind for kind, card in cards.items() if card.rtx} == {"rtx_5090", "rtx_pro_6000"}
    assert {kind for kind, card in cards.items() if card.a100} == {"a100", "a100_80gb"}
    assert {kind for kind, card in cards.items() if card.sorts} == {
        *("rtx_5090", "rtx_pro_6000", "dgx_spark_gb10", "t4", "rtx_2080_ti", "v100")
    }


# --------------------------------------------------------------------------------------------- settings

TOKENS = {"rtx_4090": 2048, "l40s": 2048, "a100_80gb": 2048, "h100": 8192, "h200": 8192, "b200": 16384}


@pytest.mark.parametrize(("kind", "tokens"), TOKENS.items(), ids=TOKENS)
def test_default_tokens_of_a_step(kind: str, tokens: int) -> None:
    assert default_tokens(card_of(pod(kind, 1).gpus)) == tokens


SETTINGS: dict[str, tuple[tuple[str, ...], dict[str, object]]] = {
    "nothing": ((), {"tokens": 8192, "sequences": 128, "number_bytes": 2, "captured": True, "drafts": 0}),
    "tokens of a step": (("--max-num-batched-tokens", "1024"), {"tokens": 1024}),
    "tokens with a suffix": (("--max-num-batched-tokens", "4k"), {"tokens": 4000}),
    "tokens that are no number": (("--max-num-batched-tokens", "many"), {"tokens": 8192}),
    "fewer sequences": (("--max-num-seqs", "16"), {"sequences": 16}),
    "more sequences than users need": (("--max-num-seqs", "1024"), {"sequences": 128}),
    "an 8-bit cache": (("--kv-cache-dtype", "fp8"), {"number_bytes": 1}),
    "no graphs": (("--enforce-eager",), {"compiled": False, "captured": False}),
    "no prefix caching": (("--no-enable-prefix-caching",), {"prefix_caching": False}),
    "windows that keep all": (("--disable-hybrid-kv-cache-manager",), {"windows": False}),
    "text only": (("--language-model-only",), {"vision": False}),
    "a vision tower on each GPU": (("--mm-encoder-tp-mode", "data"), {"vision_split": False}),
    "drafts": (("--speculative-config", '{"method":"mtp","num_speculative_tokens":3}'), {"drafts": 3}),
    "no drafts": (("--speculative-config", '{"num_speculative_tokens":"3"}'), {"drafts": 0}),
    "drafts of no object": (("--speculative-config", "[1]"), {"drafts": 0}),
    "adapters": (("--enable-lora",), {"lora_slots": 1, "lora_rank": 16}),
    "many adapters": (("--enable-lora", "--max-loras=4", "--max-lora-rank=64"), {"lora_slots": 4, "lora_rank": 64}),
    "no adapters": (("--max-loras", "4"), {"lora_slots": 0}),
    "fewer graphs": (("--max-cudagraph-capture-size", "64"), {"largest_graph": 64}),
    "hostile drafts": (("--speculative-config", "{"), {"drafts": 0}),
}


@pytest.mark.parametrize(("args", "found"), SETTINGS.values(), ids=SETTINGS)
def test_settings_of_a_server(args: tuple[str, ...], found: dict[str, object]) -> None:
    serving = serving_of(Arguments.parse(args), H100)
    assert {name: getattr(serving, name) for name in found} == found


# ------------------------------------------------------------------------------------------------ phases


def test_step_of_a_dense_network_is_partly_split() -> None:
    assert step_gib(DENSE, 1, SERVING) == 8192 * 4096 * 30 / GIB
    assert step_gib(DENSE, 2, SERVING) == 8192 * 4096 * 20 / GIB


def test_step_of_experts_is_not_split() -> None:
    assert step_gib(EXPERTS, 1, SERVING) == step_gib(EXPERTS, 8, SERVING) == 8192 * 4096 * 75 / GIB


def test_states_add_to_a_step() -> None:
    hybrid = replace(DENSE, groups=(*DENSE.groups, Layers("state", 48, conv_bytes=61440, state_bytes=3145728)))
    added = step_gib(hybrid, 1, SERVING) - step_gib(DENSE, 1, SERVING)
    assert added == pytest.approx(8192 * 3 * 48 * 128 * 4 / GIB)


PEAKS = {
    "a first start compiles the word vectors": (DENSE, SERVING, 1, 128, 128256 * 4096 * 2),
    "a warm cache does not": (DENSE, replace(SERVING, first=False), 1, 128, 8192 * 4096 * 30),
    "the sampler of many sequences": (DENSE, replace(SERVING, first=False), 1, 1024, 1024 * 128256 * 10),
    "the step of experts": (EXPERTS, SERVING, 1, 128, 8192 * 4096 * 75),
    "the vision tower": (VISION, SERVING, 1, 128, 2 * GIB),
    "half of it is split": (VISION, SERVING, 2, 128, 1.5 * GIB),
    "each GPU has its own": (VISION, replace(SERVING, vision_split=False), 2, 128, 2 * GIB),
    "text only": (VISION, replace(SERVING, vision=False), 1, 128, 8192 * 4096 * 30),
}


@pytest.mark.parametrize(("network", "serving", "tensor", "sequences", "peak"), PEAKS.values(), ids=PEAKS)
def test_peak_is_the_largest_phase(
    network: Network, serving: Serving, tensor: int, sequences: int, peak: float
) -> None:
    assert terms(network, Split(tensor=tensor), H100, serving, sequences).peak == pytest.approx(peak / GIB)


def test_sampler_without_flashinfer_sorts() -> None:
    warm = replace(SERVING, first=False)
    sorting = terms(DENSE, Split(), replace(H100, sorts=True), warm, 1024)
    assert sorting.peak == pytest.approx(1024 * 128256 * 32 / GIB)


def test_own_memory_grows_with_the_card_and_the_links() -> None:
    alone = terms(DENSE, Split(), H100, SERVING, 128).own_gib()
    assert alone == FITTED.base
    assert terms(DENSE, Split(tensor=4, pipeline=2), H100, SERVING, 128).own_gib() == alone + 3 * FITTED.link
    assert terms(DENSE, Split(), replace(H100, rtx=True), SERVING, 128).own_gib() == alone + FITTED.rtx
    assert terms(DENSE, Split(), replace(H100, unified=True), SERVING, 128).own_gib() == alone + 4


def test_replicas_with_spread_experts_exchange_tokens() -> None:
    alone = terms(EXPERTS, Split(), H100, SERVING, 128)
    spread = terms(EXPERTS, Split(data=4, expert=True), H100, SERVING, 128)
    assert spread.own_gib() == pytest.approx(alone.own_gib() + 2 * FITTED.link + 10 * 8192 * 4096 * 4 / GIB)
    assert spread.peak == pytest.approx(2 * alone.peak)
    assert terms(DENSE, Split(data=4), H100, SERVING, 128).own_gib() == alone.own_gib()


def test_no_graphs_without_capture() -> None:
    eager = terms(DENSE, Split(), H100, replace(SERVING, captured=False), 128)
    assert eager.graphs_gib() == 0
    assert eager.gib() == eager.own_gib() + eager.peak + SPARE_GIB


GRAPHS = {
    "one sequence: 1, 2": (2, 1, 0, 2),
    "eight: 1, 2, 4, 8, 16": (16, 8, 0, 5),
    "128: all to 256": (256, 128, 0, 35),
    "256: all to 512": (512, 256, 0, 51),
    "1024 on data-center Blackwell": (1024, 1024, 0, 83),
    "drafts are tokens of a sequence": (64, 8, 3, 3 + 8),
    "sequences of three tokens: 3, 6, 12 too": (48, 8, 2, 3 + 6 + 3),
    "a number of sequences between two sizes": (26, 13, 0, 3 + 3 + 1),
}


@pytest.mark.parametrize(("largest", "sequences", "drafts", "sizes"), GRAPHS.values(), ids=GRAPHS)
def test_sizes_of_graphs(largest: int, sequences: int, drafts: int, sizes: int) -> None:
    """What `VllmConfig._set_cudagraph_sizes` of vLLM 0.32.0 returned."""
    assert capture_sizes(largest, sequences, drafts) == sizes


def graphs(sequences: int = 128, card: Card = H100, **changes: object) -> float:
    return terms(DENSE, Split(), card, replace(SERVING, **changes), sequences).graphs  # type: ignore[arg-type]


def test_graphs_of_a_server() -> None:
    b200 = card_of(pod("b200", 1).gpus)
    assert graphs(512) == graphs(256)
    assert graphs(512, b200) > graphs(256, b200)
    assert graphs(256, tokens=64) == graphs(256, largest_graph=64) == graphs(32)
    assert graphs(lora_slots=1) == graphs(lora_slots=4) == 2 * graphs()


def test_graphs_of_latents_are_larger() -> None:
    latent = replace(DENSE, groups=(Layers("latent", 32, latent=576),))
    sizes = [terms(network, Split(), H100, SERVING, 128).graphs for network in (DENSE, EXPERTS, latent)]
    assert sizes == [32 * 35, 2 * 32 * 35, 4 * 32 * 35]


# ----------------------------------------------------------------------------------------- unknown networks


def test_usual_widths_are_those_of_known_models() -> None:
    assert usual_hidden(8, experts=False) == 4096
    assert usual_hidden(70, experts=False) == pytest.approx(8192, rel=0.1)
    assert usual_hidden(30, experts=True) == 2048
    assert usual_hidden(671, experts=True) == pytest.approx(7168, rel=0.1)


def test_gpu_without_a_name_is_usable() -> None:
    assert card_of((Gpu(0, "", 24576, 0),)).total_gib == pytest.approx((24576 - 483) / 1024)
