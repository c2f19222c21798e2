"""Blocks of vLLM's KV cache: by hand, and against start-up logs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chores.memory_logs import logs
from pi.planning.cache import Cache, CacheOptions, cache_of, token_bytes
from pi.planning.network import Layers
from pi.planning.overhead import GIB

LLAMA_8B = Layers("full", 32, kv_heads=8, key_dim=128, value_dim=128)
LATENT = Layers("latent", 61, latent=576)
GDN = Layers("state", 48, conv_bytes=61440, state_bytes=3145728)
QWEN_27B = (GDN, Layers("full", 16, kv_heads=4, key_dim=256, value_dim=256))
GPT_OSS = (
    Layers("full", 18, kv_heads=8, key_dim=64, value_dim=64),
    Layers("window", 18, kv_heads=8, key_dim=64, value_dim=64, window=128),
)
GEMMA_31B = (
    Layers("full", 10, kv_heads=4, key_dim=512, value_dim=512),
    Layers("window", 50, kv_heads=16, key_dim=256, value_dim=256, window=1024),
)
PACKED = (LATENT, Layers("window", 61, latent=576, window=128))
MAMBA_ONLY = (Layers("state", 64, conv_bytes=1000, state_bytes=2000),)


def made(layers: tuple[Layers, ...], tensor: int = 1, pipeline: int = 1, **options: int | bool) -> Cache:
    cache = cache_of(layers, tensor, pipeline, CacheOptions(**options))  # type: ignore[arg-type]
    assert cache is not None
    return cache


TOKEN_BYTES = {
    "keys and values": (LLAMA_8B, 1, 2, 8 * 256 * 2),
    "split over two GPUs": (LLAMA_8B, 2, 2, 4 * 256 * 2),
    "at least one head on each GPU": (LLAMA_8B, 16, 2, 256 * 2),
    "8-bit numbers": (LLAMA_8B, 1, 1, 8 * 256),
    "a fixed format": (Layers("full", 1, kv_heads=1, key_dim=64, value_dim=64, number_bytes=4), 1, 1, 512),
    "latents on every GPU": (LATENT, 8, 2, 576 * 2),
    "an indexer's bytes": (Layers("latent", 1, latent=576, index_bytes=132), 8, 2, 576 * 2 + 132),
    "tokens that share an entry": (Layers("latent", 1, latent=512, index_bytes=128, ratio=4), 1, 2, (1024 + 128) / 4),
}


@pytest.mark.parametrize(("group", "tensor", "number", "size"), TOKEN_BYTES.values(), ids=TOKEN_BYTES)
def test_bytes_of_a_token(group: Layers, tensor: int, number: int, size: float) -> None:
    assert token_bytes(group, tensor, number) == size


PAGE_27B = 832 * 4 * 512 * 2
"""A state of 3.06 MiB needs 783 tokens of attention, and blocks are multiples of 64."""

BLOCKS = {
    "one group: the pages of all layers": ((LLAMA_8B,), {}, 16 * 32 * 4096, 1000, 63),
    "a stage has half of the layers": ((LLAMA_8B,), {"pipeline": 2}, 16 * 16 * 4096, 1000, 63),
    "windows keep their last tokens and one block": (GPT_OSS, {}, 16 * 18 * 2048, 1600, 100 + 8 + 1),
    "and those in flight": (GPT_OSS, {"in_flight": 160}, 16 * 18 * 2048, 1600, 100 + 18 + 1),
    "without the hybrid manager they keep all": (GPT_OSS, {"windows": False}, 16 * 36 * 2048, 1600, 100),
    "groups have the size of the smallest": (GEMMA_31B, {}, 10 * 16 * 16384, 1600, 50 + 5 * (64 + 1)),
    "three states for each of three groups": (QWEN_27B, {}, 16 * PAGE_27B, 8320, 10 + 9),
    "one without prefix caching, in finer blocks": (
        *(QWEN_27B, {"prefix_caching": False}),
        *(16 * 784 * 4096, 7840, 10 + 3),
    ),
    "and one more for each draft": (QWEN_27B, {"drafts": 2}, 16 * PAGE_27B, 832, 1 + 15),
    "states alone": (MAMBA_ONLY, {}, 64 * 3000, 10**6, 3),
    "pages of windows beside others": (PACKED, {}, 16 * 61 * 1152, 1600, 100 + 8 + 1),
}


@pytest.mark.parametrize(("layers", "changes", "block", "tokens", "blocks"), BLOCKS.values(), ids=BLOCKS)
def test_blocks_of_a_request(
    layers: tuple[Layers, ...], changes: dict[str, int | bool], block: int, tokens: int, blocks: int
) -> None:
    cache = made(layers, **changes)
    assert (cache.block_bytes, cache.blocks_of(tokens)) == (block, blocks)
    assert cache.bytes_of(tokens) == (blocks + 1) * block


def test_requests_share_the_tokens_in_flight() -> None:
    cache = made(GPT_OSS, in_flight=1600)
    each, shared, empty = 10 + 8 + 1, 2, 1
    room = (3 * each + shared + empty) * cache.block_bytes
    assert cache.requests(room, 160) == 3
    assert cache.requests(room - cache.block_bytes, 160) == 2


def test_network_without_a_cache() -> None:
    assert cache_of((), 1, 1, CacheOptions()) is None
    assert cache_of((Layers("full", 0),), 1, 1, CacheOptions()) is None


NETWORKS = [(LLAMA_8B,), (LATENT,), QWEN_27B, GPT_OSS, GEMMA_31B, PACKED]


@given(
    st.sampled_from(NETWORKS),
    st.integers(0, 2**38),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([1, 2]),
    st.sampled_from([0, 16384]),
)
def test_longest_request_is_the_longest_that_fits(
    layers: tuple[Layers, ...], room: int, tensor: int, number: int, in_flight: int
) -> None:
    cache = made(layers, tensor, number_bytes=number, in_flight=in_flight)
    longest = cache.longest(room, 2**20)
    assert longest == 0 or cache.bytes_of(longest) <= room
    assert longest == 2**20 or cache.bytes_of(longest + 1) > room
    assert bool(longest) == (cache.requests(room, max(1, longest)) >= 1) or not longest


LOGGED = [
    (1, (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 28, 29, 35, 41, 46, 50, 51, 52, 56)),
    (1, (42, 43, 44, 48, 54)),
]
"""Batches in flight, and the logs that state their cache: of windows, older vLLMs keep the tokens of one batch."""


@pytest.mark.parametrize(("batches", "number"), [(batches, n) for batches, numbers in LOGGED for n in numbers])
def test_cache_holds_the_requests_that_vllm_logs(batches: int, number: int) -> None:
    log = logs()[number]
    row, serving, split = log.row, log.serving, log.split
    options = CacheOptions(serving.number_bytes, batches * serving.tokens, serving.prefix_caching)
    cache = cache_of(log.network.groups, split.tensor, split.pipeline, options)
    assert cache is not None
    requests = cache.blocks(row["kv_gib"] * GIB) / cache.blocks_of(row["max_model_len"])
    logged = row.get("concurrency") or row["kv_tokens"] / row["max_model_len"]
    assert requests == pytest.approx(logged, rel=0.011)


HYBRID = (19, 20, 24, 26, 27, 31, 34, 37, 59, 60, 62, 63, 64)


@pytest.mark.parametrize("number", HYBRID)
def test_cache_with_states_never_holds_more_than_vllm_logs(number: int) -> None:
    """Older vLLMs keep fewer states, in finer blocks: up to 13 % more requests."""
    log = logs()[number]
    row, serving, split = log.row, log.serving, log.split
    cache = cache_of(log.network.groups, split.tensor, split.pipeline, CacheOptions(serving.number_bytes))
    assert cache is not None
    blocks = cache.blocks(row["kv_gib"] * GIB)
    if "mamba_blocks" in row:
        found = blocks / row["mamba_blocks"]
    else:
        logged = row.get("concurrency") or row["kv_tokens"] / row["max_model_len"]
        found = blocks / cache.blocks_of(row["max_model_len"]) / logged
    assert 0.87 < found <= 1
