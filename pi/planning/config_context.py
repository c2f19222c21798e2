"""Read a model's longest context from its `config.json`, as vLLM does (`_get_and_verify_max_len`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pi.planning.config_fields import MAX_COUNT, Table, count, section, word

KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""Fields with a length; the smallest counts."""

DEFAULT = 2048
"""vLLM's length for a model that states none, in tokens."""

ALREADY_SCALED = (
    "su",
    "longrope",
    "llama3",
    "yarn",
    "deepseek_yarn",
    "deepseek_llama_scaling",
    "telechat3-yarn",
    "default",
    "mrope",
)
"""Kinds of rope scaling whose factor is contained in the stated length, or that have none."""


def context_of(text: Table) -> int:
    """Return the longest context of a text model in tokens."""
    stated = [length for length in (count(text, key) for key in KEYS) if length]
    length = count(text, "model_max_length") or min(stated, default=DEFAULT)
    if "gemma3" in word(text, "model_type"):
        return length
    factor = 1.0
    for rope in _ropes(text):
        if word(rope, "rope_type", "type") not in ALREADY_SCALED:
            factor = _factor(rope) or factor
    return min(int(length * factor), MAX_COUNT)


def _ropes(text: Table) -> Iterator[Table]:
    """Yield the tables of rope parameters: one, or one for each type of layer."""
    rope = section(text, "rope_parameters") or section(text, "rope_scaling")
    nested = [value for value in rope.values() if isinstance(value, Mapping)] if len(rope) <= 100 else []
    yield from nested or [rope]


def _factor(rope: Table) -> float:
    """Return the scaling factor, or 0 if it is missing or absurd."""
    value = rope.get("factor")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_COUNT:
        return float(value)
    return 0.0
