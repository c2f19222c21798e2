"""Facts that a `config.json` may leave out, by model type.

Many files omit the defaults of the classes in transformers, most often in the text section of a multimodal model.
Source: `configuration_*.py` of transformers 5.20.2.
"""

from __future__ import annotations

from typing import Any

from pi.planning.config_fields import Table, word

_NAMES = (
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)

_SIZES: dict[str, tuple[int, int, int, int, int, int, int, int]] = {
    "bamba": (32, 32, 8, 0, 4096, 14336, 128000, 262144),
    "cohere": (40, 64, 0, 0, 8192, 22528, 256000, 8192),
    "cohere2": (40, 64, 0, 0, 8192, 22528, 256000, 8192),
    "deepseek_v2": (32, 32, 0, 0, 4096, 11008, 102400, 2048),
    "deepseek_v3": (61, 128, 128, 0, 7168, 18432, 129280, 4096),
    "ernie4_5": (18, 16, 2, 128, 1024, 3072, 103424, 131072),
    "exaone4": (32, 32, 32, 0, 4096, 16384, 102400, 2048),
    "falcon_h1": (32, 32, 8, 0, 4096, 14336, 128000, 8192),
    "falcon_mamba": (32, 0, 0, 0, 768, 0, 50280, 0),
    "gemma": (28, 16, 16, 256, 3072, 24576, 256000, 8192),
    "gemma2": (26, 8, 4, 256, 2304, 9216, 256000, 8192),
    "gemma3_text": (26, 8, 4, 256, 2304, 9216, 262208, 131072),
    "gemma3n_text": (35, 8, 2, 256, 2048, 16384, 262400, 32768),
    "gemma4_text": (30, 8, 4, 256, 2304, 9216, 262144, 131072),
    "glm4": (40, 32, 2, 128, 4096, 13696, 151552, 131072),
    "glm4v_moe_text": (46, 96, 8, 0, 4096, 10944, 151424, 65536),
    "glm4v_text": (40, 32, 2, 0, 4096, 13696, 151552, 32768),
    "gpt_oss": (36, 64, 8, 64, 2880, 2880, 201088, 131072),
    "granite": (32, 32, 0, 0, 4096, 11008, 32000, 2048),
    "granitemoehybrid": (32, 32, 0, 0, 4096, 11008, 32000, 2048),
    "jamba": (32, 32, 8, 0, 4096, 14336, 65536, 262144),
    "lfm2": (32, 32, 8, 0, 2560, 12288, 65536, 128000),
    "lfm2_moe": (32, 32, 8, 0, 2048, 7168, 65536, 128000),
    "llama": (32, 32, 0, 0, 4096, 11008, 32000, 2048),
    "llama4_text": (48, 40, 8, 128, 5120, 8192, 202048, 131072),
    "mamba": (32, 0, 0, 0, 768, 0, 50280, 0),
    "mamba2": (64, 0, 0, 0, 4096, 0, 32768, 0),
    "ministral": (32, 32, 8, 0, 4096, 14336, 32000, 131072),
    "ministral3": (34, 32, 8, 128, 4096, 14336, 131072, 262144),
    "mistral": (32, 32, 8, 0, 4096, 14336, 32000, 131072),
    "mixtral": (32, 32, 8, 0, 4096, 14336, 32000, 131072),
    "olmo2": (32, 32, 0, 0, 4096, 11008, 50304, 2048),
    "olmo3": (32, 32, 0, 0, 4096, 11008, 50304, 2048),
    "opt": (12, 12, 0, 0, 768, 0, 50272, 2048),
    "phi3": (32, 32, 0, 0, 3072, 8192, 32064, 4096),
    "qwen2": (32, 32, 32, 0, 4096, 22016, 151936, 32768),
    "qwen2_5_omni_text": (28, 28, 4, 0, 3584, 18944, 152064, 32768),
    "qwen2_5_vl_text": (80, 64, 8, 0, 8192, 29568, 152064, 32768),
    "qwen2_moe": (24, 16, 16, 0, 2048, 5632, 151936, 32768),
    "qwen2_vl_text": (80, 64, 8, 0, 8192, 29568, 152064, 32768),
    "qwen3": (32, 32, 32, 128, 4096, 22016, 151936, 32768),
    "qwen3_5_moe_text": (40, 16, 2, 256, 2048, 0, 248320, 32768),
    "qwen3_5_text": (32, 16, 4, 256, 4096, 12288, 248320, 32768),
    "qwen3_moe": (24, 32, 4, 0, 2048, 6144, 151936, 32768),
    "qwen3_next": (48, 16, 2, 256, 2048, 5632, 151936, 32768),
    "qwen3_omni_moe_text": (28, 28, 4, 0, 2048, 18944, 3584, 32768),
    "qwen3_vl_moe_text": (24, 16, 16, 0, 2048, 5632, 151936, 128000),
    "qwen3_vl_text": (32, 32, 32, 128, 4096, 22016, 151936, 128000),
    "smollm3": (36, 16, 4, 0, 2048, 11008, 128256, 32768),
}
"""Defaults of the fields in `_NAMES`, 0 for none."""

_GATED_DELTA = {
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
_MAMBA2 = {"mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2}
_MAMBA1 = {"state_size": 16, "expand": 2, "conv_kernel": 4}
_QWEN_WINDOW = {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28}
_LATENT = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}

_OTHERS: dict[str, dict[str, Any]] = {
    "bamba": _MAMBA2,
    "cohere2": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "deepseek_v2": {**_LATENT, "n_routed_experts": 64},
    "deepseek_v3": {**_LATENT, "n_routed_experts": 256},
    "exaone4": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 1024},
    "falcon_mamba": _MAMBA1,
    "gemma2": {"sliding_window": 4096, "sliding_window_pattern": 2},
    "gemma3_text": {"sliding_window": 4096, "sliding_window_pattern": 6},
    "gemma3n_text": {"sliding_window": 512, "sliding_window_pattern": 5, "num_kv_shared_layers": 15},
    "gemma4_text": {"sliding_window": 512, "sliding_window_pattern": 6, "global_head_dim": 512},
    "gpt_oss": {"sliding_window": 128, "sliding_window_pattern": 2, "num_local_experts": 128},
    "granitemoehybrid": {**_MAMBA2, "num_local_experts": 8},
    "jamba": {
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "num_experts": 16,
    },
    "lfm2": {"conv_L_cache": 3},
    "lfm2_moe": {"conv_L_cache": 3, "num_experts": 32},
    "llama4_text": {"attention_chunk_size": 8192, "num_local_experts": 16},
    "mamba": _MAMBA1,
    "mamba2": {"num_heads": 128, "state_size": 128, "expand": 2, "conv_kernel": 4, "n_groups": 8},
    "ministral": {"sliding_window": 4096},
    "mistral": {"sliding_window": 4096},
    "mixtral": {"num_local_experts": 8},
    "nemotron_h": {
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
        "mamba_num_heads": 128,
        "mamba_head_dim": 64,
        "n_groups": 8,
        "ssm_state_size": 128,
        "conv_kernel": 4,
    },
    "olmo3": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "qwen2": _QWEN_WINDOW,
    "qwen2_5_omni_text": _QWEN_WINDOW,
    "qwen2_5_vl_text": {**_QWEN_WINDOW, "max_window_layers": 80},
    "qwen2_moe": {**_QWEN_WINDOW, "num_experts": 60},
    "qwen2_vl_text": {**_QWEN_WINDOW, "max_window_layers": 80},
    "qwen3": _QWEN_WINDOW,
    "qwen3_5_moe_text": {**_GATED_DELTA, "num_experts": 256},
    "qwen3_5_text": _GATED_DELTA,
    "qwen3_moe": {"sliding_window": 4096, "use_sliding_window": False, "num_experts": 128},
    "qwen3_next": {**_GATED_DELTA, "num_experts": 512},
    "qwen3_omni_moe_text": {"num_experts": 128},
    "qwen3_vl_moe_text": {"num_experts": 60},
    "smollm3": {"use_sliding_window": False},
}
"""Other defaults; `sliding_window_pattern`: every n-th layer sees all tokens."""

TEXT_TYPES = {
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "gemma4_unified_text": "gemma4_text",
    "llama4": "llama4_text",
    "llava": "llama",
    "llava_next": "llama",
    "mistral3": "mistral",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
}
"""Type of the text model if its own section does not state one, by the type of the whole model."""


def with_defaults(text: Table, whole_type: str) -> dict[str, Any]:
    """Return the fields of a text model, completed by its type's defaults.

    A field that is `null` in the file stays so. `whole_type` is the model's type if the section states none.
    """
    stated = word(text, "model_type") or whole_type
    kind = TEXT_TYPES.get(stated, stated)
    sizes = {name: size for name, size in zip(_NAMES, _SIZES.get(kind, ()), strict=False) if size}
    return {**sizes, **_OTHERS.get(kind, {}), **text, "model_type": kind}
