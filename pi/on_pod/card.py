"""What a repository says about its model besides the weights, from its files or from the hub's page."""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Dict, Iterable, Optional

from pi.on_pod import checkpoint, reading
from pi.on_pod.shapes import ModelCard

MARKS = (
    "tools", "think", "<arg_key>", "<function=", "<|tool_calls_section_begin|>", "<minimax:tool_call>",
    "<|tool_call_start|>", "[TOOL_CALLS]", "<|python_tag|>", "<tool_call>",
)  # fmt: skip
"""Texts in a chat template that show its format of tool calls (`pi.planning.manners.MARKED`) and that it thinks."""

GGUF_LIMIT = 40
"""Most GGUF files that a pod reports."""

HF_QUANT = "hf_quant_config.json"

README_BYTES = 32 * 1024


def card(names: Iterable[str], template: Optional[str], origins: Any) -> ModelCard:
    """Return the facts in a list of files, a chat template and the names of the models it was made from.

    `template` is empty if the repository has none, and None if that is unknown.
    """
    present = set(names)
    return {
        "base_models": model_ids(origins),
        "template": None if template is None else marks(template),
        "consolidated": checkpoint.is_mistral(present),
        "pooling": "modules.json" in present,
        "adapter": "adapter_config.json" in present and "config.json" not in present,
        "gguf": sorted(name for name in present if name.endswith(".gguf"))[:GGUF_LIMIT],
    }


def config(read: Callable[[str], Any], names: Iterable[str]) -> Optional[Dict[str, Any]]:
    """Return config.json, or Mistral's params.json without one; None if neither is a JSON object.

    `read` returns a JSON file. NVIDIA's older checkpoints have `quantization_config` in a file of its own
    (`get_config` in vLLM's transformers_utils/config.py).
    """
    present = set(names)
    name = next((name for name in ("config.json", "params.json") if name in present), None)
    found = read(name) if name else None
    if not isinstance(found, dict):
        return None
    if "quantization_config" not in found and HF_QUANT in present:
        found["quantization_config"] = read(HF_QUANT)
    return found


def json_object(value: Any) -> Optional[Dict[str, Any]]:
    """Return the value if it is a JSON object, else None."""
    return value if isinstance(value, dict) else None


def marks(template: str) -> list[str]:
    """Return the marks in a chat template; "template" stands for the template itself."""
    return ["template", *(mark for mark in MARKS if mark in template)] if template else []


def model_ids(value: Any) -> list[str]:
    """Return the ids in `base_model` of a model card, which is a text or a list."""
    values = value if isinstance(value, list) else [value]
    texts = [text for text in values if isinstance(text, str)]
    return [text for text in texts if re.fullmatch(r"[A-Za-z0-9._-]{1,96}/[A-Za-z0-9._-]{1,96}", text)][:8]


def template_text(tokenizer: Any, jinja: Any) -> Optional[str]:
    """Return the chat templates in tokenizer_config.json, which has one or a list of named ones, and the one beside it.

    Empty if the tokenizer has none, and None without any facts of a tokenizer.
    """
    if not isinstance(tokenizer, dict):
        return jinja if isinstance(jinja, str) and jinja else None
    value = tokenizer.get("chat_template")
    named = value if isinstance(value, list) else [value]
    texts = [entry.get("template") if isinstance(entry, dict) else entry for entry in named]
    return "\n".join(text for text in [*texts, jinja] if isinstance(text, str) and text)


def origins_of(folder: str) -> list[str]:
    """Return `base_model` of the README.md in a folder; its front matter is YAML."""
    front = reading.beginning(os.path.join(folder, "README.md"), README_BYTES).split("\n---", 1)[0]
    entry = re.search(r"^base_model:[ \t]*(.*(?:\n[ \t]*- .*)*)", front, re.MULTILINE)
    words = re.split(r"[\s,\[\]\"']+", entry.group(1)) if entry else []
    return model_ids(words)
