"""Read a model's `config.json`, or Mistral's `params.json`, into the facts that determine its memory.

The fields come from strangers: wrong types and absurd numbers count as missing, and no input raises an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pi.planning.config_caches import groups_of, heads_of, hidden_of
from pi.planning.config_context import context_of
from pi.planning.config_defaults import with_defaults
from pi.planning.config_fields import MAX_LAYERS, Table, count, entries, section, word
from pi.planning.config_layers import layer_kinds
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


def read_network(config: Mapping[str, Any]) -> Network | None:
    """Return the facts in a `config.json` or `params.json`, or None if some that determine the memory are missing."""
    if not isinstance(config, Mapping):
        return None
    whole = from_params(config) if is_params(config) else config
    text = text_model(whole)
    groups, hidden = _groups(whole, text), hidden_of(text)
    if groups is None or not hidden:
        return None
    return Network(
        groups=groups,
        heads=heads_of(text),
        hidden=hidden,
        vocabulary=count(text, "vocab_size") or count(whole, "vocab_size"),
        intermediate=_intermediate(text),
        experts=_experts(text),
        context=context_of(text),
        precision=precision_of(whole, text),
        multimodal=is_multimodal(whole),
        depth=len(layer_kinds(text)),
        draft_layers=draft_layers(whole, text),
    )


def text_model(config: Table) -> dict[str, Any]:
    """Return the fields of the text model, with the defaults of its type."""
    text, names = config, [word(config, "model_type")]
    for _ in range(MAX_NESTING):
        inner = next((found for name in TEXT_SECTIONS if (found := section(text, name))), None)
        if inner is None:
            break
        text = inner
        names.append(word(text, "model_type"))
    return with_defaults(text, next((name for name in reversed(names) if name), ""))


def _groups(whole: Table, text: Table) -> tuple[Layers, ...] | None:
    """Return the groups of layers with a cache, or None if a fact is missing."""
    if not heads_of(text) and not _without_attention(text):
        return None
    if _is_encoder(whole, text):
        return () if layer_kinds(text) else None
    groups = groups_of(text)
    return (*groups, *_cross_attention(whole, text, groups)) if groups else None


def _without_attention(text: Table) -> bool:
    return {"state", "none"} >= set(layer_kinds(text))


def _is_encoder(whole: Table, text: Table) -> bool:
    """Return whether each token sees all others, so that vLLM keeps no cache."""
    if whole.get("is_encoder_decoder") is True:
        return False
    bidirectional = any("Bidirectional" in name for name in entries(whole, "architectures") if isinstance(name, str))
    return (
        word(text, "model_type") in ENCODERS
        or bidirectional
        or whole.get("is_causal") is False
        or text.get("use_bidirectional_attention") in (True, "all")
    )


def _cross_attention(whole: Table, text: Table, groups: tuple[Layers, ...]) -> tuple[Layers, ...]:
    """Return the cache of an encoder's output in each layer of the decoder: as a window of the encoder's length."""
    if whole.get("is_encoder_decoder") is not True or not groups:
        return ()
    tokens = count(text, "max_source_positions") or context_of(text)
    own = groups[0]
    crossing = Layers("window", own.count, own.kv_heads, own.key_dim, own.value_dim, window=tokens)
    return (crossing,)


def _intermediate(text: Table) -> int:
    """Return the width of the dense feed-forward part; the largest if it differs by layer."""
    names = ("intermediate_size", "ffn_hidden_size", "n_inner", "decoder_ffn_dim", "ffn_dim", "d_ff")
    widths = [width for width in entries(text, "intermediate_size") if isinstance(width, int)]
    return count(text, *names) or count({"widest": max(widths, default=0)}, "widest")


def _experts(text: Table) -> int:
    """Return the number of routed experts in a layer, 0 for a dense model."""
    names = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
    listed = entries(text, "num_experts") or entries(text, "moe_num_experts")
    return count(text, *names) or count({"first": listed[0] if listed else 0}, "first")


def is_multimodal(config: Table) -> bool:
    """Return whether vLLM profiles a vision or audio tower."""
    if word(config, "model_type") in SPEECH or count(config, "vision_n_layers"):
        return True
    if config.get("is_encoder_decoder") is not True and any(
        isinstance(name, str) and name.endswith("ForConditionalGeneration") for name in entries(config, "architectures")
    ):
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
