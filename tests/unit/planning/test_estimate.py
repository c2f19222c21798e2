"""Memory sums against figures calculated by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.planning.estimate import (
    GIB,
    Attention,
    MemorySum,
    Split,
    attention_of,
    context_of,
    heads_of,
    memory_sum,
    weights_per_gpu_gib,
)

LLAMA_8B = Attention(layers=32, kv_heads=8, head_dim=128)
GPT_OSS = Attention(layers=18, kv_heads=8, head_dim=64, window_layers=18, window=128)
DEEPSEEK = Attention(layers=61, latent=576)

BYTES = {
    "keys and values of every layer": (LLAMA_8B, 1000, 1, 32 * 8 * 128 * 2 * 2 * 1000),
    "split over two GPUs": (LLAMA_8B, 1000, 2, 32 * 4 * 128 * 2 * 2 * 1000),
    "at least one head per GPU": (LLAMA_8B, 1000, 16, 32 * 1 * 128 * 2 * 2 * 1000),
    "windows hold their last tokens": (GPT_OSS, 1000, 1, 8 * 64 * 2 * 2 * (18 * 1000 + 18 * 128)),
    "windows that are not full": (GPT_OSS, 100, 1, 8 * 64 * 2 * 2 * 36 * 100),
    "latents are on every GPU": (DEEPSEEK, 1000, 8, 61 * 576 * 2 * 1000),
    "values may be narrower": (Attention(1, 4, 192, value_dim=128), 10, 1, 4 * (192 + 128) * 2 * 10),
}


@pytest.mark.parametrize(("attention", "tokens", "tensor", "size"), BYTES.values(), ids=BYTES)
def test_kv_cache(attention: Attention, tokens: int, tensor: int, size: int) -> None:
    assert attention.kv_bytes(tokens, tensor) == size


@given(
    st.sampled_from([LLAMA_8B, GPT_OSS, DEEPSEEK, Attention(5, 4, 256, window_layers=29, window=1024)]),
    st.integers(0, 2**38),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([1, 2]),
)
def test_longest_context_is_the_longest_that_fits(attention: Attention, room: int, tensor: int, size: int) -> None:
    tokens = attention.tokens_in(room, tensor, size)
    assert attention.kv_bytes(tokens, tensor, size) <= room
    assert attention.kv_bytes(tokens + 1, tensor, size) > room


def test_data_parallelism_copies_weights_and_others_split() -> None:
    whole = 100 * GIB / 1e9
    assert weights_per_gpu_gib(whole, Split()) == pytest.approx(100)
    assert weights_per_gpu_gib(whole, Split(tensor=4, pipeline=2)) == pytest.approx(12.5)
    assert weights_per_gpu_gib(whole, Split(data=4)) == pytest.approx(100)
    assert weights_per_gpu_gib(whole, Split(data=4, expert=True)) == pytest.approx(6 + 94 / 4)


def sums(wanted: int | None = None, share: float = 0.9, attention: Attention | None = LLAMA_8B) -> MemorySum:
    return memory_sum(16.06, attention, Split(), memory_gib=24, free_gib=24, share=share, context=131072, wanted=wanted)


def test_sum_contains_the_longest_context_that_fits() -> None:
    memory = sums()
    room_gib = 0.9 * 24 - 16.06e9 / GIB * 1.04 - 2.0
    assert memory.fits
    assert memory.longest == memory.context == int(room_gib * GIB / 131072)
    assert not sums(wanted=(memory.longest or 0) + 1).fits
    assert sums(wanted=4096).kv_cache_gib == 4096 * 131072 / GIB


def test_sum_renders_as_one_line() -> None:
    assert sums(wanted=8192).render() == (
        "15.0 weights + 1.0 KV cache for 8192 tokens + 2.6 overhead = 18.6 of 21.6 GiB on each GPU"
    )


def test_unknown_kv_cache_needs_some_memory() -> None:
    memory = sums(attention=None)
    assert (memory.longest, memory.kv_cache_gib) == (None, 1.0)
    assert not sums(attention=None, share=0.75).fits


CONFIGS = {
    "grouped heads": (
        {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096},
        LLAMA_8B,
    ),
    "ungrouped heads": (
        {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 256},
        Attention(2, 4, 64),
    ),
    "latents": (
        {"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64},
        DEEPSEEK,
    ),
    "windows by layer": (
        {
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "sliding_window": 128,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        Attention(2, 8, 64, window_layers=2, window=128),
    ),
    "linear layers keep no KV cache": (
        {
            "text_config": {
                "num_hidden_layers": 4,
                "num_attention_heads": 16,
                "num_key_value_heads": 2,
                "head_dim": 256,
                "layer_types": ["linear_attention"] * 3 + ["full_attention"],
            }
        },
        Attention(1, 2, 256),
    ),
    "too little": ({"num_hidden_layers": 4}, None),
    "hostile": ({"num_hidden_layers": "4", "num_attention_heads": -1, "layer_types": 7}, None),
    "no head size": ({"num_hidden_layers": 4, "num_attention_heads": 8}, None),
}


@pytest.mark.parametrize(("config", "attention"), CONFIGS.values(), ids=CONFIGS)
def test_config_gives_attention(config: dict[str, object], attention: Attention | None) -> None:
    assert attention_of(config) == attention


def test_config_gives_heads_and_context() -> None:
    config = {"text_config": {"num_attention_heads": 16, "max_position_embeddings": 4096}}
    assert (heads_of(config), context_of(config)) == (16, 4096)
    assert (heads_of({}), context_of({"max_position_embeddings": True})) == (None, None)
