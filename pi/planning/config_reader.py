"""Read a model's `config.json`, or Mistral's `params.json`, into the facts that determine its memory.

The fields come from strangers: wrong types and impossible numbers count as missing, and no input raises an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pi.planning.config_caches import groups_of, heads_of, hidden_of
from pi.planning.config_context import context_of
from pi.planning.config_defaults import with_defaults
from pi.planning.config_fields import MAX_LAYERS, Table, count, entries, section, word
from pi.planning.config_layers import Kind, layer_kinds
from pi.planning.config_mistral import from_params, is_params
from pi.planning.config_precision import precision_of
from pi.planning.network import Layers, Network

TEXT_SECTIONS = (
    "text_config",
    "llm_config",
    "language_config",
    "thinker_config",
    "language_model_config",
    "lm_config",
    "decoder",
    "generator",
)
"""Sections that hold the text model of a multimodal one."""

MAX_NESTING = 4
"""Most sections in one another that lead to the text model."""

TOWERS = (
    "vision_config",
    "audio_config",
    "visual",
    "vision_tower_config",
    "vision_encoder",
    "speech_config",
    "audio_encoder_config",
    "sound_config",
    "img_processor",
    "audio_processor",
    "embd_layer",
    "vit_config",
    "vision_model_config",
)
"""Sections that describe a vision or audio tower."""

SPEECH = ("whisper",)
"""Model types whose encoder is an audio tower."""

ENCODERS = (
    "albert",
    "bert",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "eurobert",
    "gte",
    "modernbert",
    "mpnet",
    "new",
    "nomic_bert",
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xlm-roberta-flash",
)
"""Model types that see the whole text at once and keep no cache (embeddings, classification)."""


def read_network(config: Mapping[str, Any], quantization: Mapping[str, Any] | None = None) -> Network | None:
    """Return the facts in a `config.json` or `params.json`, or None if important ones are missing.

    `quantization` is the content of the repository's `hf_quant_config.json`. Older checkpoints of NVIDIA state their
    number format only there.
    """
    if not isinstance(config, Mapping):
        return None
    whole = from_params(config) if is_params(config) else config
    if quantization and not section(whole, "quantization_config"):
        whole = {**whole, "quantization_config": quantization}
    text = text_model(whole)
    kinds = layer_kinds(text)
    groups, hidden = _groups(whole, text, kinds), hidden_of(text)
    if groups is None or not hidden:
        return None
    return Network(
        groups=groups,
        heads=heads_of(text),
        hidden=hidden,
        vocabulary=count(text, "vocab_size", "padded_vocab_size") or count(whole, "vocab_size"),
        intermediate=_intermediate(text),
        experts=_experts(text),
        context=context_of(text),
        precision=precision_of(whole, text),
        multimodal=is_multimodal(whole),
        depth=len(kinds),
        draft_layers=draft_layers(whole, text),
    )


def text_model(config: Table) -> dict[str, Any]:
    """Return the fields of the innermost text section with sizes, completed by defaults."""
    kind = word(config, "model_type")
    levels = [with_defaults(config, kind)]
    inner: Table = config
    while len(levels) <= MAX_NESTING:
        inner = next((found for name in TEXT_SECTIONS if (found := section(inner, name))), {})
        if not inner:
            break
        kind = word(inner, "model_type") or kind
        levels.append(with_defaults(inner, kind))
    return next((level for level in reversed(levels) if hidden_of(level)), levels[-1])


def _groups(whole: Table, text: Table, kinds: list[Kind]) -> tuple[Layers, ...] | None:
    """Return the groups of layers with a cache, or None if a fact is missing."""
    without_attention = set(kinds) <= {"state", "none"}
    if not kinds or not (heads_of(text) or without_attention):
        return None
    if _is_encoder_decoder(whole, text):
        groups = groups_of(text, kinds)
        return (*groups, _cross_attention(text, groups[0])) if groups else None
    if _is_encoder(whole, text):
        return ()
    return groups_of(text, kinds) or None


def _is_encoder(whole: Table, text: Table) -> bool:
    """Return whether each token sees all others, so that vLLM keeps no cache."""
    bidirectional = any("Bidirectional" in name for name in entries(whole, "architectures") if isinstance(name, str))
    return (
        word(text, "model_type") in ENCODERS
        or bidirectional
        or False in (whole.get("is_causal"), text.get("is_causal"))
        or text.get("use_bidirectional_attention") in (True, "all")
    )


def _is_encoder_decoder(whole: Table, text: Table) -> bool:
    """Return whether a decoder reads the output of an encoder, as in Whisper and T5."""
    both = bool(count(text, "encoder_layers") and count(text, "decoder_layers"))
    return whole.get("is_encoder_decoder") is True or both


def _cross_attention(text: Table, own: Layers) -> Layers:
    """Return the cache of an encoder's output in the decoder, as a window of the encoder's length."""
    tokens = count(text, "max_source_positions") or context_of(text)
    return Layers("window", own.count, own.kv_heads, own.key_dim, own.value_dim, window=tokens)


def _intermediate(text: Table) -> int:
    """Return the width of the dense feed-forward part; the largest if it differs by layer."""
    names = ("intermediate_size", "ffn_hidden_size", "n_inner", "decoder_ffn_dim", "ffn_dim", "d_ff")
    widths = [width for width in entries(text, "intermediate_size") if isinstance(width, int)]
    return count(text, *names) or count({"widest": max(widths, default=0)}, "widest")


def _experts(text: Table) -> int:
    """Return the number of routed experts in a layer, 0 for a dense model."""
    names = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
    listed = entries(text, "num_experts") or entries(text, "moe_num_experts")
    return (
        count(text, *names)
        or count(section(text, "ffn_config"), *names)
        or count({"first": listed[0] if listed else 0}, "first")
    )


def is_multimodal(config: Table) -> bool:
    """Return whether vLLM profiles a vision or audio tower."""
    if word(config, "model_type") in SPEECH or count(config, "vision_n_layers"):
        return True
    names = [name for name in entries(config, "architectures") if isinstance(name, str)]
    if not _is_encoder_decoder(config, config) and any(name.endswith("ForConditionalGeneration") for name in names):
        return True
    return any(section(table, name) for table in (config, section(config, "thinker_config")) for name in TOWERS)


def draft_layers(whole: Table, text: Table) -> int:
    """Return the layers of a draft head that vLLM can use (`hf_config_override` in its `config/speculative.py`)."""
    kind = word(text, "model_type")
    if kind.startswith("mimo_v2"):
        return 1
    if kind == "minimax_m2":
        return 0
    own = ("num_mtp_modules",) if kind.startswith("minimax_m3") else ()
    names = (*own, "mtp_num_hidden_layers", "num_nextn_predict_layers")
    found = count(text, *names) or count(whole, *names)
    return found if found <= MAX_LAYERS else 0
