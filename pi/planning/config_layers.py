"""Read the kind of each layer from a `config.json`: all keys and values, a window of them, a state, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pi.planning.config_fields import MAX_LAYERS, Table, count, entries, pattern, positions, section, word

Kind = Literal["full", "window", "state", "both", "window+state", "none"]
"""Cache of a block. "both": keys and values of all tokens, and a state."""

WORDS: dict[str, Kind] = {
    "full_attention": "full",
    "attention": "full",
    "global_attention": "full",
    "deepseek_sparse_attention": "full",
    "qwen_sparse_attention": "full",
    "indexed_attention": "full",
    "minimax_m3_sparse": "full",
    "reference_sliding_attention": "full",
    "sliding_attention": "window",
    "sliding_window_attention": "window",
    "window_attention": "window",
    "local_attention": "window",
    "chunked_attention": "window",
    "linear_attention": "state",
    "mamba": "state",
    "mamba2": "state",
    "conv": "state",
    "recurrent": "state",
    "hybrid": "both",
    "hybrid_sliding": "window+state",
    "moe": "none",
    "mlp": "none",
    "dense": "none",
    "sparse": "none",
    "no_op": "none",
}
"""Names in `layer_types` and `layers_block_type`: ALLOWED_LAYER_TYPES of transformers 5.20 and older names."""

HINTS: tuple[tuple[str, Kind], ...] = (
    ("sliding", "window"),
    ("window", "window"),
    ("local", "window"),
    ("chunk", "window"),
    ("swa", "window"),
    ("linear", "state"),
    ("mamba", "state"),
    ("delta", "state"),
    ("kda", "state"),
    ("gdn", "state"),
    ("ssm", "state"),
    ("conv", "state"),
    ("lightning", "state"),
)
"""Parts of a name that pi does not know, the first match wins. Without a match it is attention to all tokens."""

DEPTHS = ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Fields with the number of layers; an encoder-decoder's `num_hidden_layers` is that of its encoder."""

ALL_STATE = ("mamba", "mamba2", "falcon_mamba", "bamba", "granitemoehybrid")
"""Model types without attention unless a list names layers with it."""


def layer_kinds(text: Table) -> list[Kind]:
    """Return the kind of each layer, or an empty list if their number is missing."""
    depth = _depth(text)
    for own in (_override_pattern, _block_types):
        if kinds := own(text):
            return kinds
    if not depth:
        return []
    plain: list[Kind] = ["full"] * depth
    kinds = next((kinds for reader in READERS if len(kinds := reader(text, depth)) >= depth), plain)
    return _without_shared(text, kinds[:depth])


def _depth(text: Table) -> int:
    """Return the number of attention layers, or 0. A block of LongCat-Flash has two."""
    if blocks := count(text, "num_layers") if word(text, "model_type").startswith("longcat_flash") else 0:
        depth = 2 * blocks
    else:
        depth = count(text, *DEPTHS)
    return depth if depth <= MAX_LAYERS else 0


def _without_shared(text: Table, kinds: list[Kind]) -> list[Kind]:
    """Let the last `num_kv_shared_layers` reuse the keys and values of an earlier layer (Gemma-3n, Gemma-4)."""
    own = len(kinds) - count(text, "num_kv_shared_layers")
    return [kind if layer < own else "none" for layer, kind in enumerate(kinds)] if own > 0 else kinds


def named(name: object) -> Kind:
    """Return the kind of a layer with this name."""
    lowered = name.lower() if isinstance(name, str) else ""
    if kind := WORDS.get(lowered):
        return kind
    return next((kind for part, kind in HINTS if part in lowered), "full")


def _override_pattern(text: Table) -> list[Kind]:
    """Nemotron-H: M is Mamba, * attention; E (experts) and - (a dense layer) keep nothing."""
    letters: dict[str, Kind] = {"M": "state", "*": "full"}
    return [letters.get(letter, "none") for letter in pattern(text, "hybrid_override_pattern")]


def _block_types(text: Table) -> list[Kind]:
    return [named(name) for name in entries(text, "layers_block_type")]


def _layer_types(text: Table, depth: int) -> list[Kind]:
    kinds = [named(name) for name in entries(text, "layer_types")]
    kind = word(text, "model_type")
    if kind == "gemma4_text" and len(kinds) >= depth:
        return [*kinds[: depth - 1], "full"]
    if kind.startswith("inkling"):
        return [_without_state(kind) for kind in kinds]
    return kinds


def _without_state(kind: Kind) -> Kind:
    """Return the kind of an Inkling layer, whose convolutions cache a few tokens only."""
    plain: dict[Kind, Kind] = {"both": "full", "window+state": "window"}
    return plain.get(kind, kind)


def _block_configs(text: Table, _: int) -> list[Kind]:
    """Nemotron NAS: a block may have no attention."""
    return [_of_block(block) for block in entries(text, "block_configs")]


def _of_block(block: object) -> Kind:
    if not isinstance(block, dict):
        return "full"
    if kind := word(block, "block_type"):
        return named(kind)
    attention = section(block, "attention")
    if attention.get("no_op") or attention.get("replace_with_linear"):
        return "none"
    return "window" if count(attention, "window_length") else "full"


def _attention_flags(text: Table, _: int) -> list[Kind]:
    """MiniMax-01 and M1: 1 is softmax attention, 0 lightning attention."""
    return ["full" if flag == 1 else "state" for flag in entries(text, "attn_type_list")]


def _window_flags(text: Table, _: int) -> list[Kind]:
    """MiMo-V2: 1 is a window."""
    return ["window" if flag == 1 else "full" for flag in entries(text, "hybrid_layer_pattern")]


def _kda_layers(text: Table, depth: int) -> list[Kind]:
    """Kimi Linear and K3: `kda_layers` counts from 1."""
    linear = positions(section(text, "linear_attn_config"), "kda_layers")
    return ["state" if layer + 1 in linear else "full" for layer in range(depth)] if linear else []


def _listed(text: Table, depth: int) -> list[Kind]:
    """Bamba, LFM2 and Zamba2 list the layers with attention, Inkling those with windows."""
    if local := positions(text, "local_layer_ids"):
        return ["window" if layer in local else "full" for layer in range(depth)]
    if hybrid := positions(text, "hybrid_layer_ids"):
        return ["both" if layer in hybrid else "state" for layer in range(depth)]
    full = positions(text, "attn_layer_indices") or positions(text, "full_attn_idxs")
    return ["full" if layer in full else "state" for layer in range(depth)] if full else []


def _period(text: Table, depth: int) -> list[Kind]:
    """Jamba: one layer with attention in each period."""
    period, offset = count(text, "attn_layer_period"), count(text, "attn_layer_offset")
    return ["full" if layer % period == offset else "state" for layer in range(depth)] if period else []


def _interval(text: Table, depth: int) -> list[Kind]:
    """Qwen3-Next, Qwen3.5 and Bailing: the last layer of each group has attention.

    Bailing V3, whose states are KDA, has attention in an incomplete last group too.
    """
    interval = count(text, "full_attention_interval", "layer_group_size")
    if not interval:
        return []
    whole = depth // interval * interval if count(text, "short_conv_kernel_size") else depth
    return ["state" if (layer + 1) % interval and layer < whole else "full" for layer in range(depth)]


def _no_rope(text: Table, depth: int) -> list[Kind]:
    """Llama 4: layers with position encoding see chunks of the context."""
    if not count(text, "attention_chunk_size") or word(text, "model_type") not in ("llama4_text", "llama4"):
        return []
    interval = count(text, "no_rope_layer_interval") or 4
    rope = entries(text, "no_rope_layers") or [int((layer + 1) % interval != 0) for layer in range(depth)]
    return ["window" if flag else "full" for flag in rope]


def _window_pattern(text: Table, depth: int) -> list[Kind]:
    """Gemma, Cohere2, EXAONE-4: every n-th layer sees all tokens, or a pattern such as "LLLG"."""
    if letters := pattern(text, "sliding_window_pattern"):
        kinds: list[Kind] = ["full" if letters[layer % len(letters)] == "G" else "window" for layer in range(depth)]
        return [*kinds[:-1], "full"]
    every = count(text, "sliding_window_pattern", "_sliding_window_pattern")
    if not every or not count(text, "sliding_window"):
        return []
    return ["window" if (layer + 1) % every else "full" for layer in range(depth)]


def _by_type(text: Table, depth: int) -> list[Kind]:
    """Models whose type decides, and windows in all layers or from one layer on."""
    kind = word(text, "model_type")
    if kind in ALL_STATE:
        return ["state"] * depth
    if kind == "falcon_h1":
        return ["both"] * depth
    if kind == "minimax":
        return ["state" if layer % 2 else "full" for layer in range(depth)]
    if kind in ("muse_spark_text", "muse_glimmer_text"):
        return ["window" if (depth - 1 - layer) % 4 else "full" for layer in range(depth)]
    if not count(text, "sliding_window") or not text.get("use_sliding_window", True):
        return []
    first = count(text, "max_window_layers") if "use_sliding_window" in text else 0
    return ["full" if layer < first else "window" for layer in range(depth)]


READERS: tuple[Callable[[Table, int], list[Kind]], ...] = (
    _layer_types,
    _block_configs,
    _attention_flags,
    _window_flags,
    _kda_layers,
    _listed,
    _period,
    _interval,
    _no_rope,
    _window_pattern,
    _by_type,
)
"""The first that describes all layers wins."""
