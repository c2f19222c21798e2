"""Sizes of the states that Mamba, linear-attention and convolution layers keep for each sequence.

Shapes: `MambaStateShapeCalculator` in vLLM's `model_executor/layers/mamba/mamba_utils.py`, for one GPU and without
speculative tokens; formats: `MambaStateDtypeCalculator` there, with vLLM's default cache formats.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pi.planning.config_fields import Table, count, section, word

NUMBER_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "half": 2, "float": 4}
"""Bytes of a number by its name in `mamba_ssm_dtype`."""

MODEL_BYTES = 2
"""Bytes of a number of the model: vLLM computes in BF16 or FP16, also for checkpoints in FP32."""


class State(NamedTuple):
    """State of a layer for each sequence: bytes of its convolution and its recurrent part.

    A tensor-parallel size must divide `heads`. `mamba2` is a layer of Mamba-2.
    """

    conv_bytes: int
    state_bytes: int
    heads: int
    mamba2: bool = False


def state_of(text: Table) -> State | None:
    """Return the state of a layer, or None if its facts are missing."""
    for reader in (_kda, _gated_delta, _mamba2, _short_convolution, _mamba1, _lightning):
        if state := reader(text):
            return state
    return None


def _recurrent_bytes(text: Table, default: int) -> int:
    """Return the bytes of a number in the recurrent state; Qwen3.5 and Nemotron-H state it."""
    return NUMBER_BYTES.get(word(text, "mamba_ssm_dtype", "mamba_ssm_cache_dtype"), default)


def _kda(text: Table) -> State | None:
    """Kimi delta attention: `kda_state_shape`, its recurrent part in FP32."""
    linear = section(text, "linear_attn_config") or text
    heads = count(linear, "num_heads", "linear_num_heads", "num_attention_heads")
    dim = count(linear, "linear_head_dim", "head_dim")
    kernel = count(linear, "short_conv_kernel_size")
    if count(linear, "linear_num_heads"):
        kernel = kernel or count(linear, "linear_conv_kernel_dim")
    if not (heads and dim and kernel):
        return None
    return State(3 * heads * dim * (kernel - 1) * MODEL_BYTES, heads * dim * dim * 4, heads)


def _gated_delta(text: Table) -> State | None:
    """Gated DeltaNet of Qwen3-Next, Qwen3.5 and OLMo hybrid: `gated_delta_net_state_shape`."""
    key_heads, value_heads = count(text, "linear_num_key_heads"), count(text, "linear_num_value_heads")
    key_dim, value_dim = count(text, "linear_key_head_dim"), count(text, "linear_value_head_dim")
    kernel = count(text, "linear_conv_kernel_dim")
    if not (key_heads and value_heads and key_dim and value_dim and kernel):
        return None
    width = 2 * key_heads * key_dim + value_heads * value_dim
    recurrent = value_heads * value_dim * key_dim * _recurrent_bytes(text, MODEL_BYTES)
    return State(width * (kernel - 1) * MODEL_BYTES, recurrent, math.gcd(key_heads, value_heads))


def _mamba2(text: Table) -> State | None:
    """Mamba-2 of Nemotron-H, Granite 4, Bamba, Falcon-H1, Zamba2: `mamba2_state_shape`.

    Each GPU has a copy of a single group; several are split (`mamba_mixer2.py`).
    """
    heads = count(text, "mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    if not heads and word(text, "model_type") == "mamba2":
        heads = count(text, "num_heads")
    size = count(text, "ssm_state_size", "mamba_d_state", "state_size")
    kernel = count(text, "conv_kernel", "mamba_d_conv")
    groups = count(text, "mamba_n_groups", "mamba_ngroups", "n_groups") or 1
    if not (heads and size and kernel):
        return None
    inner = _mamba2_width(text, heads)
    nemotron = word(text, "model_type").startswith("nemotron_h")
    recurrent = inner * size * _recurrent_bytes(text, 4 if nemotron else MODEL_BYTES)
    conv = (inner + 2 * groups * size) * (kernel - 1) * MODEL_BYTES
    return State(conv, recurrent, heads if groups == 1 else math.gcd(heads, groups), mamba2=True)


def _mamba2_width(text: Table, heads: int) -> int:
    """Return heads x head dimension."""
    dim = count(text, "mamba_head_dim", "mamba_d_head", "mamba_headdim")
    return heads * dim if dim else count(text, "mamba_d_ssm") or _expanded(text)


def _expanded(text: Table) -> int:
    return (count(text, "mamba_expand", "expand") or 2) * count(text, "hidden_size", "d_model")


def _mamba1(text: Table) -> State | None:
    """Mamba-1 of Jamba, Mamba and FalconMamba: `mamba1_state_shape`."""
    size, kernel = count(text, "mamba_d_state", "state_size"), count(text, "mamba_d_conv", "conv_kernel")
    inner = _expanded(text)
    if not (size and kernel and inner):
        return None
    return State(inner * (kernel - 1) * MODEL_BYTES, inner * size * MODEL_BYTES, inner)


def _short_convolution(text: Table) -> State | None:
    """Short convolution of LFM2: `short_conv_state_shape`."""
    kernel, width = count(text, "conv_L_cache"), count(text, "conv_dim") or count(text, "hidden_size")
    return State(width * (kernel - 1) * MODEL_BYTES, 0, width) if kernel > 1 and width else None


def _lightning(text: Table) -> State | None:
    """Lightning attention of MiniMax-01 and Bailing: `linear_attention_state_shape`."""
    if not word(text, "model_type").startswith(("minimax", "bailing")):
        return None
    heads = count(text, "num_attention_heads")
    dim = count(text, "head_dim") or (count(text, "hidden_size") // heads if heads else 0)
    return State(0, heads * dim * dim * MODEL_BYTES, heads) if dim else None
