"""Memory sums against figures calculated by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.planning.cache import Cache, CacheOptions, cache_of
from pi.planning.cuda_memory import Card
from pi.planning.estimate import (
    REPLICATED,
    RISK,
    Load,
    MemorySum,
    loaded_gb,
    memory_sum,
    replicated_part,
    sequences,
    weights_per_gpu_gib,
)
from pi.planning.network import USUAL_VOCABULARY, Layers, Network, usual_hidden, with_head
from pi.planning.overhead import GIB, terms
from pi.planning.serving import Serving
from pi.planning.split import Split

LLAMA_8B = Network(
    (Layers("full", 32, kv_heads=8, key_dim=128, value_dim=128),), heads=32, hidden=4096, vocabulary=128256, depth=32
)
HYBRID = Network(
    (
        Layers("state", 48, conv_bytes=61440, state_bytes=3145728),
        Layers("full", 16, kv_heads=4, key_dim=256, value_dim=256),
    ),
    heads=24,
    hidden=5120,
    vocabulary=248320,
    depth=64,
)
CARD = Card(total_gib=24, free_gib=24)
SERVING = Serving(tokens=2048)
BLOCK_GIB = 16 * 131072 / GIB


def unknown(weights_gb: float) -> Network:
    """Return a dense network of this size in 16 bit, whose layers nobody has stated."""
    return Network((), 0, usual_hidden(weights_gb / 2, experts=False), USUAL_VOCABULARY)


def test_data_parallelism_copies_weights_and_others_split() -> None:
    whole = 100 * GIB / 1e9
    assert weights_per_gpu_gib(whole, Split()) == pytest.approx(100)
    assert weights_per_gpu_gib(whole, Split(tensor=4, pipeline=2)) == pytest.approx(12.5)
    assert weights_per_gpu_gib(whole, Split(data=4)) == pytest.approx(100)
    assert weights_per_gpu_gib(whole, Split(data=4, expert=True)) == pytest.approx(6 + 94 / 4)


def sums(
    wanted: int | None = None, share: float = 0.9, network: Network = LLAMA_8B, serving: Serving = SERVING
) -> MemorySum:
    load = Load(16.06, network)
    return memory_sum(load, Split(), CARD, serving, share=share, context=131072, wanted=wanted)


def test_sum_contains_the_longest_context_that_fits() -> None:
    memory = sums()
    assert memory.fits
    assert memory.longest == memory.context
    room = memory.allowed_gib - memory.weights_gib - memory.overhead_gib
    assert memory.room_gib == pytest.approx(room)
    assert 0 <= room - memory.kv_cache_gib < BLOCK_GIB
    assert not sums(wanted=(memory.longest or 0) + 1024).fits
    assert sums(wanted=4096).kv_cache_gib == 4096 * 131072 / GIB + BLOCK_GIB


def test_fewer_sequences_leave_more_room() -> None:
    """The sum counts the memory of the sequences that the plan allows, not of vLLM's default."""
    memory = sums()
    overhead = terms(LLAMA_8B, Split(), CARD, SERVING, memory.max_num_seqs).gib()
    assert memory.overhead_gib == overhead
    assert overhead < terms(LLAMA_8B, Split(), CARD, SERVING, SERVING.sequences).gib()


def test_sum_renders_as_one_line() -> None:
    assert sums(wanted=8192).render() == (
        "15.0 weights + 1.0 KV cache for 8192 tokens + 1.7 overhead = 17.7 of 21.6 GB on each GPU"
    )


def test_unknown_kv_cache_needs_some_memory() -> None:
    memory = sums(network=unknown(16.06))
    assert (memory.longest, memory.kv_cache_gib, memory.kv_tokens) == (None, 1.0, None)
    assert (memory.max_num_seqs, memory.state_blocks, memory.requests_of(2048)) == (64, None, None)
    assert not sums(network=unknown(16.06), share=0.7).fits


def test_cache_of_a_plan_in_tokens_and_requests() -> None:
    memory = sums()
    assert memory.cache is not None and memory.longest is not None
    blocks = memory.cache.blocks(memory.room_gib * GIB)
    assert memory.kv_tokens == blocks / memory.cache.blocks_of(memory.longest) * memory.longest // 1
    assert memory.requests_of(16384) == (blocks - 1) // 1024
    assert memory.state_blocks is None


def test_drafter_takes_memory_of_the_cache() -> None:
    load = Load(16.06, LLAMA_8B, draft_gb=2.0)
    memory = memory_sum(load, Split(tensor=2), CARD, SERVING, share=0.9, context=131072, wanted=None)
    alone = memory_sum(replace(load, draft_gb=0), Split(tensor=2), CARD, SERVING, share=0.9, context=None, wanted=None)
    assert memory.weights_gib - alone.weights_gib == pytest.approx(1e9 / GIB)


def test_number_of_sequences_that_a_user_sets_is_part_of_the_sum() -> None:
    many, few = (sums(serving=replace(SERVING, sequences=n, fixed=True)) for n in (512, 16))
    assert (many.max_num_seqs, few.max_num_seqs) == (512, 16)
    assert many.overhead_gib == terms(LLAMA_8B, Split(), CARD, SERVING, 512).gib() > few.overhead_gib
    states = Network((Layers("state", 32, kv_heads=8, state_bytes=2**21),), 32, 4096, 128256)
    blocks = sums(network=states, serving=replace(SERVING, sequences=8, fixed=True)).state_blocks or 0
    assert not sums(network=states, serving=replace(SERVING, sequences=blocks + 9, fixed=True)).fits
    assert sums(network=states, serving=replace(SERVING, sequences=blocks // 2, fixed=True)).fits


PADDED = {
    "gpt-oss: 2880 becomes 3072": ("mxfp4", 2880, 128, 65.25 * (1 + (3072 / 2880 - 1) * (1 - REPLICATED))),
    "a width that is a multiple": ("mxfp4", 4096, 128, 65.25),
    "no experts": ("mxfp4", 2880, 0, 65.25),
    "another format": ("nvfp4", 2880, 128, 65.25),
    "an unknown format": (None, 2880, 128, 65.25),
}


@pytest.mark.parametrize(("precision", "hidden", "experts", "loaded"), PADDED.values(), ids=PADDED)
def test_mxfp4_weights_are_padded(precision: str | None, hidden: int, experts: int, loaded: float) -> None:
    assert loaded_gb(65.25, precision, Network((), 64, hidden, experts=experts)) == pytest.approx(loaded)


OUTSIDE = {
    "DeepSeek-V3 in 8 bit": (671, "fp8", Network((Layers("latent", 61, latent=576),), 128, 7168, 129280), 0.029),
    "its NVFP4 keeps 16 bit": (403, "nvfp4", Network((Layers("latent", 61, latent=576),), 128, 7168, 129280), 0.087),
    "blocks, not caches": (16.06, "bf16", LLAMA_8B, (32 * 5 * 4096**2 + 2 * 128256 * 4096) * 2 / 16.06e9),
    "no more than all": (1.0, "bf16", LLAMA_8B, 1.0),
    "an unknown network": (100, "bf16", unknown(100), REPLICATED),
}


@pytest.mark.parametrize(("weights", "precision", "network", "part"), OUTSIDE.values(), ids=OUTSIDE)
def test_part_of_the_weights_outside_the_experts(weights: float, precision: str, network: Network, part: float) -> None:
    assert replicated_part(weights, precision, network) == pytest.approx(part, rel=0.02)


# --------------------------------------------------------------------------------------- sequences


def cache(network: Network, **options: Any) -> Cache:
    made = cache_of(network.groups, 1, 1, CacheOptions(**options))
    assert made is not None
    return made


SEQUENCES = {
    "as many as have 2048 tokens each": (LLAMA_8B, 128 * 40 + 1, 128, 40),
    "in steps of eight": (LLAMA_8B, 128 * 47 + 1, 128, 40),
    "at least eight": (LLAMA_8B, 128, 128, 8),
    "at most what the users need": (LLAMA_8B, 10**6, 128, 128),
    "at most the recipe's": (LLAMA_8B, 10**6, 20, 16),
    "a recipe's one": (LLAMA_8B, 10**6, 1, 1),
    "three quarters of the blocks of states": (HYBRID, 8, 128, 6),
    "one in the least memory": (HYBRID, 1, 128, 1),
    "each has its states beside its tokens": (HYBRID, 12 * 20 + 1, 128, 16),
}


@pytest.mark.parametrize(("network", "blocks", "most", "count"), SEQUENCES.values(), ids=SEQUENCES)
def test_sequences(network: Network, blocks: int, most: int, count: int) -> None:
    made = cache(network)
    assert sequences(made, blocks * made.block_bytes, most) == count


@given(st.sampled_from([LLAMA_8B, HYBRID]), st.floats(0, 300), st.integers(1, 1024), st.integers(0, 5))
def test_sequences_never_exceed_the_states_or_the_limit(network: Network, gib: float, most: int, drafts: int) -> None:
    made = cache(network, drafts=drafts)
    count = sequences(made, gib * GIB, most)
    assert 1 <= count <= most
    blocks = made.blocks(gib * GIB)
    assert not made.has_states or count <= max(1, blocks)


def test_certain_context_leaves_room_for_the_error_of_the_sum() -> None:
    memory = sums()
    assert memory.cache is not None and memory.longest is not None
    less = (memory.room_gib - RISK * memory.memory_gib) * GIB
    assert 0 < memory.certain(131072) == memory.cache.longest(less, 131072) < memory.longest
    assert memory.sure().longest == memory.sure().context == memory.certain(131072)
    assert memory.sure().kv_cache_gib < memory.kv_cache_gib
    assert replace(memory, room_gib=RISK * memory.memory_gib).certain(1) == 0
    assert replace(memory, cache=None).certain(1) == 1


def test_draft_head_keeps_the_tokens_of_one_more_layer() -> None:
    group = LLAMA_8B.groups[0]
    plain, drafting = (cache_of(each.groups, 1, 1, CacheOptions()) for each in (LLAMA_8B, with_head(LLAMA_8B)))
    assert plain is not None and drafting is not None
    assert drafting.block_bytes * group.count == plain.block_bytes * (group.count + 1)
    states = replace(LLAMA_8B, groups=(Layers("state", 32, kv_heads=8, state_bytes=2**21),))
    assert with_head(states) is states


WORDS = 128256 * 4096 * 2 / 16.06e9
"""Part of Llama-3.1-8B's weights that are word vectors; its file has them twice."""


@pytest.mark.parametrize(
    ("stages", "part"),
    [(1, 1), (2, 1 / 2), (3, 11 / 32 * (1 - 2 * WORDS)), (4, 8 / 32 * (1 - 2 * WORDS) + WORDS)],
    ids=["all", "half", "the middle one has a block more", "the first and the last have the words"],
)
def test_fullest_stage_decides(stages: int, part: float) -> None:
    found = weights_per_gpu_gib(16.06, Split(pipeline=stages), network=LLAMA_8B)
    others = [10 / 32 * (1 - 2 * WORDS) + WORDS, 11 / 32 * (1 - 2 * WORDS) + WORDS] if stages == 3 else []
    assert found == pytest.approx(max([part, *others]) * 16.06e9 / GIB)
