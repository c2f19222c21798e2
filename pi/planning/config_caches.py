"""Turn the kinds of layers into groups of alike layers with their sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pi.planning.config_compressed import compressed_layers, index_entry_bytes
from pi.planning.config_context import context_of
from pi.planning.config_fields import Table, count, entries, pattern, section, word
from pi.planning.config_layers import Kind
from pi.planning.config_states import state_of
from pi.planning.network import Layers
from pi.planning.stages import counts_of, ends_of, places_of

MOST_STAGES = 8
"""Longest pipeline for which the blocks of layers count."""

PLAIN_MLA = ("minicpm3",)
"""Model types with compressed keys and values that vLLM caches as plain heads (`minicpm3.py`)."""

WIDER_WINDOW = ("cohere2", "cohere2_moe")
"""Model types whose windows do not count the token itself: vLLM adds one."""


def groups_of(text: Table, kinds: list[Kind]) -> tuple[Layers, ...] | None:
    """Return the groups of alike layers, or None if a fact is missing."""
    if compressed := compressed_layers(text, len(kinds)):
        return _merged(compressed, len(kinds))
    blocks = zip(kinds, _kv_heads(text, len(kinds)), _index_bytes(text, len(kinds)), strict=True)
    caches: dict[tuple[Kind, int, int], list[Layers | None]] = {}
    found: list[tuple[int, Layers]] = []
    for place, block in enumerate(blocks):
        if block not in caches:
            caches[block] = _caches(text, *block)
        for cache in caches[block]:
            if cache is None:
                return None
            found.append((place, cache))
    return _merged(found, len(kinds)) if kinds else None


def heads_of(text: Table) -> int:
    """Return the attention heads, or 0."""
    return count(text, "num_attention_heads", "n_head", "n_heads", "decoder_attention_heads", "num_heads")


def hidden_of(text: Table) -> int:
    """Return the width of a token, or 0."""
    return count(text, "hidden_size", "d_model", "n_embd", "dim")


def _merged(layers: Iterable[tuple[int, Layers]], depth: int) -> tuple[Layers, ...]:
    """Return each different layer once, with the number of its equals, and with their blocks if those matter."""
    places: dict[Layers, list[int]] = {}
    for place, layer in layers:
        places.setdefault(layer, []).append(place)
    groups = [replace(layer, count=len(found)) for layer, found in places.items()]
    for caches in (("full", "latent"), ("window", "state")):
        for index, found in enumerate(places.values()):
            if groups[index].cache in caches and _are_uneven(found, places_of(groups, depth)[index], depth):
                groups[index] = replace(groups[index], at=tuple(found))
    return tuple(groups)


def _are_uneven(found: Sequence[int], guessed: Sequence[int], depth: int) -> bool:
    """Return whether a pipeline stage of some length has more of these layers than pi would guess."""
    if tuple(found) == guessed:
        return False
    ends = [ends_of(depth, stages) for stages in range(2, MOST_STAGES + 1)]
    return any(max(counts_of(found, each)) > max(counts_of(guessed, each)) for each in ends)


def _caches(text: Table, kind: Kind, heads: int, index_bytes: int) -> list[Layers | None]:
    """Return the caches of a block; None stands for one whose facts are missing."""
    caches: list[Layers | None] = []
    if kind in ("full", "both"):
        caches.append(_attention(text, heads, index_bytes, window=0))
    if kind in ("window", "window+state"):
        caches.append(_attention(text, heads, index_bytes, window=window_of(text)))
    if kind in ("state", "both", "window+state"):
        caches.append(_state(text))
    return caches


def _state(text: Table) -> Layers | None:
    state = state_of(text)
    if state is None:
        return None
    conv, recurrent = state.conv_bytes, state.state_bytes
    return Layers("state", 1, kv_heads=state.heads, conv_bytes=conv, state_bytes=recurrent, mamba2=state.mamba2)


def window_of(text: Table) -> int:
    """Return the tokens of a window, or 0 if it holds the whole context."""
    window = count(text, "sliding_window", "sliding_window_size", "attention_chunk_size")
    if window >= context_of(text):
        return 0
    return window + 1 if window and word(text, "model_type") in WIDER_WINDOW else window


def _attention(text: Table, heads: int, index_bytes: int, window: int) -> Layers | None:
    """Return the cache of a layer with attention to all tokens or the last `window`."""
    rank = count(text, "kv_lora_rank")
    if rank and word(text, "model_type") not in PLAIN_MLA:
        latent = rank + count(text, "qk_rope_head_dim")
        if window:
            return Layers("window", 1, kv_heads=1, key_dim=latent, window=window)
        return Layers("latent", 1, latent=latent, index_bytes=index_bytes)
    heads, key, value = _dims(text, heads, bool(window))
    if not (heads and key):
        return None
    if window:
        return Layers("window", 1, kv_heads=heads, key_dim=key, value_dim=value, window=window)
    return Layers("full", 1, kv_heads=heads, key_dim=key, value_dim=value, index_bytes=index_bytes)


def _dims(text: Table, heads: int, windowed: bool) -> tuple[int, int, int]:
    """Return the key-value heads, the width of a key and the width of a value.

    The heads are `heads` unless this kind of layer has its own number.
    """
    dim = _head_dim(text)
    if windowed and count(text, "swa_head_dim"):
        key = count(text, "swa_head_dim")
        return count(text, "swa_num_key_value_heads") or heads, key, count(text, "swa_v_head_dim") or key
    if not windowed and word(text, "model_type").startswith("gemma4"):
        shared = count(text, "num_global_key_value_heads") if text.get("attention_k_eq_v") else 0
        dim = count(text, "global_head_dim") or dim
        return shared or heads, dim, dim
    if word(text, "model_type") in PLAIN_MLA:
        dim = count(text, "qk_nope_head_dim") + count(text, "qk_rope_head_dim")
        return heads, dim, dim
    return heads, dim, count(text, "v_head_dim") or dim


def _head_dim(text: Table) -> int:
    names = ("head_dim", "hidden_size_per_head", "attention_head_dim", "kv_channels", "d_kv")
    heads = heads_of(text)
    return count(text, *names) or (hidden_of(text) // heads if heads else 0)


def _kv_heads(text: Table, depth: int) -> list[int]:
    """Return the key-value heads of each layer."""
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return [1] * depth
    names = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
    heads = count(text, *names) or count(section(text, "attn_config"), "kv_n_heads") or heads_of(text)
    blocks = [block if isinstance(block, Mapping) else {} for block in entries(text, "block_configs")]
    shared = [count(section(block, "attention"), "n_heads_in_group") for block in blocks[:depth]]
    return [heads_of(text) // size if size else heads for size in [*shared, *[0] * (depth - len(shared))]]


def _index_bytes(text: Table, depth: int) -> list[int]:
    """Return the bytes that the sparse-attention indexer of each layer keeps for a token.

    DeepSeek's is `DeepseekV32IndexerCache`; GLM-5-Next shares a key between the tokens of a pool (`index_kpool`). The
    keys of MiniMax-M3 (`MiniMaxM3IndexerCache`) and Qwen4-Exp (`QSACompressedKeyCache`) are BF16 numbers.
    """
    sparse = section(text, "sparse_attention_config")
    if flags := entries(sparse, "sparse_attention_freq"):
        size = 2 * count(sparse, "sparse_index_dim")
        return [size if layer < len(flags) and flags[layer] else 0 for layer in range(depth)]
    if dim := count(text, "indexer_head_dim"):
        return [-(-2 * dim // max(1, count(text, "indexer_compress_ratio")))] * depth
    if not count(text, "index_topk"):
        return [0] * depth
    size = -(-index_entry_bytes(count(text, "index_head_dim")) // max(1, count(text, "index_kpool")))
    return [0 if shared else size for shared in _shared_indexes(text, depth)]


def _shared_indexes(text: Table, depth: int) -> list[bool]:
    """Return whether each layer uses the indexer of an earlier one (`vllm/models/deepseek_v32/attention.py`)."""
    if letters := pattern(text, "index_topk_pattern"):
        return [letters[layer : layer + 1] == "S" for layer in range(depth)]
    if kinds := entries(text, "indexer_types"):
        return [layer < len(kinds) and kinds[layer] == "shared" for layer in range(depth)]
    every = count(text, "index_topk_freq") or 1
    first = 0 if text.get("index_skip_topk_offset") == 0 else count(text, "index_skip_topk_offset") or 2
    return [max(layer - first + 1, 0) % every != 0 for layer in range(depth)]
