"""Translate Mistral's `params.json` into the fields of a `config.json`.

Source: `transformers_utils/configs/mistral.py` of vLLM.
"""

from __future__ import annotations

from typing import Any

from pi.planning.config_fields import MAX_LAYERS, Table, count, entries, section

NAMES = {
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
}
"""Mistral's name of a field by the name in `config.json`."""

DEFAULT_CONTEXT = 128_000
"""Context of a `params.json` that states none, in tokens."""


def is_params(config: Table) -> bool:
    """Return whether these are the fields of a `params.json`."""
    return "n_layers" in config and "dim" in config and "model_type" not in config


def from_params(params: Table) -> dict[str, Any]:
    """Return the fields of a `config.json` with the same facts."""
    config: dict[str, Any] = {new: params.get(old) for new, old in NAMES.items()}
    kept = ("head_dim", "vocab_size", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
    config |= {name: params[name] for name in kept if name in params}
    context = count(params, "max_position_embeddings", "max_seq_len") or DEFAULT_CONTEXT
    config["max_position_embeddings"] = context
    config["num_experts"] = count(section(params, "moe"), "num_experts")
    config["dtype"] = params.get("dtype") or "bfloat16"
    config |= _windows(params)
    if quantization := section(params, "quantization"):
        config["quantization_config"] = quantization
    tower = section(params, "vision_encoder") or section(params, "multimodal")
    return {**config, "vision_config": tower}


def _windows(params: Table) -> dict[str, Any]:
    """Return the window in tokens and the layers that have it.

    A list of windows repeats over the layers.
    """
    pattern = entries(params, "sliding_window")
    depth = count(params, "n_layers")
    if not pattern or depth > MAX_LAYERS:
        return {"sliding_window": params.get("sliding_window")}
    sizes = [pattern[layer % len(pattern)] for layer in range(depth)]
    types = ["full_attention" if size is None else "sliding_attention" for size in sizes]
    window = next((size for size in pattern if isinstance(size, int) and size), None)
    return {"layer_types": types, "sliding_window": window}
