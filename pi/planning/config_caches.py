"""Turn what each layer keeps into groups of alike layers with their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from pi.planning.config_fields import Table, count, entries, pattern, section, word
from pi.planning.config_layers import Kind, layer_kinds
from pi.planning.config_states import state_of
from pi.planning.network import Layers

PLAIN_MLA = ("minicpm3",)
"""Model types with compressed keys and values that vLLM caches as plain heads."""

WIDER_WINDOW = ("cohere2", "cohere2_moe")
"""Model types whose windows do not count the token itself: vLLM adds one."""


def groups_of(text: Table) -> tuple[Layers, ...] | None:
    """Return the groups of alike layers, or None if a fact is missing."""
    if ratios := compress_ratios(text):
        return _compressed(text, ratios)
    kinds = layer_kinds(text)
    layers = [layer for index, kind in enumerate(kinds) for layer in _layers_of(text, kind, index)]
    if not kinds or None in layers:
        return None
    return _merged(layer for layer in layers if layer)


def heads_of(text: Table) -> int:
    """Return the attention heads, or 0."""
    return count(text, "num_attention_heads", "n_head", "n_heads", "decoder_attention_heads", "num_heads")


def hidden_of(text: Table) -> int:
    """Return the width of a token, or 0."""
    return count(text, "hidden_size", "d_model", "n_embd", "dim")


def _merged(layers: Iterator[Layers]) -> tuple[Layers, ...]:
    """Return each different layer once, with the number of its equals."""
    return tuple(replace(layer, count=number) for layer, number in Counter(layers).items())


def _layers_of(text: Table, kind: Kind, index: int) -> list[Layers | None]:
    """Return the caches of one layer; None stands for one whose facts are missing."""
    caches: list[Layers | None] = []
    if kind in ("full", "both"):
        caches.append(_attention(text, index, window=0))
    if kind in ("window", "window+state"):
        caches.append(_attention(text, index, window=window_of(text)))
    if kind in ("state", "both", "window+state"):
        state = state_of(text)
        caches.append(Layers("state", 1, conv_bytes=state[0], state_bytes=state[1]) if state else None)
    return caches


def window_of(text: Table) -> int:
    """Return the tokens of a window, or 0."""
    window = count(text, "sliding_window", "sliding_window_size", "attention_chunk_size")
    return window + 1 if window and word(text, "model_type") in WIDER_WINDOW else window


def _attention(text: Table, index: int, window: int) -> Layers | None:
    """Return the cache of layer `index` with attention to all tokens or the last `window`."""
    rank = count(text, "kv_lora_rank")
    if rank and word(text, "model_type") not in PLAIN_MLA:
        latent = rank + count(text, "qk_rope_head_dim")
        if window:
            return Layers("window", 1, kv_heads=1, key_dim=latent, window=window)
        return Layers("latent", 1, latent=latent, index_bytes=_index_bytes(text, index))
    heads, key, value = _dims(text, index, bool(window))
    if not (heads and key):
        return None
    if window:
        return Layers("window", 1, kv_heads=heads, key_dim=key, value_dim=value, window=window)
    return Layers("full", 1, kv_heads=heads, key_dim=key, value_dim=value, index_bytes=_index_bytes(text, index))


def _dims(text: Table, index: int, windowed: bool) -> tuple[int, int, int]:
    """Return the key-value heads, the width of a key and that of a value."""
    heads, dim = _kv_heads(text, index), _head_dim(text)
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


def _kv_heads(text: Table, index: int) -> int:
    """Return the key-value heads of layer `index`."""
    blocks = entries(text, "block_configs")
    if index < len(blocks) and isinstance(blocks[index], dict):
        group = count(section(blocks[index], "attention"), "n_heads_in_group")
        if group:
            return heads_of(text) // group
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return 1
    names = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
    return count(text, *names) or count(section(text, "attn_config"), "kv_n_heads") or heads_of(text)


def _index_bytes(text: Table, index: int) -> int:
    """Return the bytes that the sparse-attention indexer of layer `index` keeps for each token.

    DeepSeek's has one FP8 number for each dimension and an FP32 scale for each 128 (`DeepseekV32IndexerCache`).
    MiniMax-M3's has BF16 numbers (`MiniMaxM3IndexerCache`).
    """
    sparse = section(text, "sparse_attention_config")
    frequency = entries(sparse, "sparse_attention_freq")
    if index < len(frequency) and frequency[index]:
        return 2 * count(sparse, "sparse_index_dim")
    if not count(text, "index_topk") or _shares_index(text, index):
        return 0
    return index_entry_bytes(count(text, "index_head_dim"))


def index_entry_bytes(dim: int) -> int:
    """Return the bytes of DeepSeek's index key with `dim` dimensions."""
    return dim + dim // 128 * 4


def _shares_index(text: Table, index: int) -> bool:
    """Return whether layer `index` uses the indexer of an earlier layer (`vllm/models/deepseek_v32/attention.py`)."""
    if letters := pattern(text, "index_topk_pattern"):
        return letters[index : index + 1] == "S"
    if every := count(text, "index_topk_freq"):
        skip = 0 if text.get("index_skip_topk_offset") == 0 else count(text, "index_skip_topk_offset") or 2
        return max(index - skip + 1, 0) % every != 0
    kinds = entries(text, "indexer_types")
    return index < len(kinds) and kinds[index] == "shared"


PACKED_ENTRY_BYTES = 584
"""Cache entry of DeepSeek-V4: 448 FP8 and 64 BF16 numbers, 8 bytes of scales.

Source: `get_kv_cache_spec` in `vllm/models/deepseek_v4/attention.py`.
"""

COMPRESSOR_WINDOWS = {4: 8, 128: 128}
"""Tokens whose numbers a compressor keeps, by its ratio (`vllm/models/deepseek_v4/compressor.py`)."""


def compress_ratios(text: Table) -> list[int]:
    """Return DeepSeek-V4's tokens for each entry by layer (0 or 1: window only), or an empty list."""
    depth = count(text, "num_hidden_layers")
    ratios = entries(text, "compress_ratios")
    if not ratios and (rates := section(text, "compress_rates")):
        ratios = [rates.get(name, 0) if isinstance(name, str) else 0 for name in entries(text, "layer_types")]
    ratios = [ratio if ratio in COMPRESSOR_WINDOWS else 0 for ratio in ratios if isinstance(ratio, int)]
    return ratios[:depth] if depth and len(ratios) >= depth else []


def _compressed(text: Table, ratios: list[int]) -> tuple[Layers, ...] | None:
    """Return DeepSeek-V4's groups: a window in each layer; compressed entries, an indexer and compressors in some."""
    dim, window, index_dim = count(text, "head_dim"), count(text, "sliding_window"), count(text, "index_head_dim")
    if not (dim and window):
        return None
    layers = [Layers("window", 1, kv_heads=1, key_dim=PACKED_ENTRY_BYTES, window=window, number_bytes=1)] * len(ratios)
    for ratio in ratios:
        if not ratio:
            continue
        indexer = index_entry_bytes(index_dim) if ratio == 4 else 0
        layers.append(Layers("latent", 1, latent=PACKED_ENTRY_BYTES, number_bytes=1, index_bytes=indexer, ratio=ratio))
        layers.append(_compressor(dim, ratio))
        if indexer:
            layers.append(_compressor(index_dim, ratio))
    return _merged(iter(layers))


def _compressor(dim: int, ratio: int) -> Layers:
    """Return the cache of a compressor: FP32 numbers and scores of the tokens that it has not compressed yet."""
    overlap = 2 if ratio == 4 else 1
    return Layers("window", 1, kv_heads=1, key_dim=2 * overlap * dim, window=COMPRESSOR_WINDOWS[ratio], number_bytes=4)
