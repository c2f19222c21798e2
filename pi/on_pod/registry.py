"""What a pod's vLLM serves, read from its files without importing it."""

from __future__ import annotations

import ast
import glob
import os
import re
from typing import Any, Dict, Iterator, Optional

from pi.on_pod import reading
from pi.on_pod.shapes import Verdict, VerdictKind

CONVERTED = (
    "ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel", "ForTextEncoding", "EmbeddingModel",
    "ForSequenceClassification", "ForTokenClassification", "ForAudioClassification", "ForImageClassification",
    "ForVideoClassification", "ClassificationModel", "ForRewardModeling", "RewardModel", "Model",
)  # fmt: skip
"""Ends of an architecture's name that vLLM exchanges to find a class (`_SUFFIX_TO_DEFAULTS` in config/model.py)."""

SAME_FORMAT = {
    "auto-round": "inc",
    "auto_round": "inc",
    "intel/auto-round": "inc",
    "compressed_tensors": "compressed-tensors",
}
"""Names of number formats in config.json that vLLM's list has under another name."""


def verdict(venv: str, config: dict[str, Any]) -> Optional[Verdict]:
    """Return what the vLLM of a venv says of a model with this config.json; None if that is not certain.

    A plugin may add architectures and formats, so a venv with plugins never rejects a model.
    """
    package = _package(venv, "vllm")
    names = config.get("architectures")
    if package is None or not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        return None
    tables = _tables(os.path.join(package, "model_executor", "models", "registry.py"))
    if not tables or _has_plugins(os.path.dirname(package)):
        return None
    return _format(package, config) or _architecture(tables, names, package, config)


def _architecture(
    tables: dict[str, dict[str, Any]], names: list[str], package: str, config: dict[str, Any]
) -> Optional[Verdict]:
    known = {name for key, table in tables.items() if key.endswith("_MODELS") and key not in FORMER for name in table}
    if any(_variants(name) & known for name in names):
        return {"verdict": "served", "what": names[0], "detail": ""}
    for name in names:
        for key, kind in FORMER.items():
            if name in tables.get(key, {}):
                return {"verdict": kind, "what": name, "detail": str(tables[key][name])}
    if "auto_map" in config or _is_own_type(package, config):
        return None
    if _by_transformers(os.path.dirname(package), names[0], config):
        return None
    return {"verdict": "unknown", "what": names[0], "detail": ""}


FORMER: Dict[str, VerdictKind] = {"_PREVIOUSLY_SUPPORTED_MODELS": "removed", "_OOT_SUPPORTED_MODELS": "plugin"}
"""Tables of the registry with models that vLLM does not serve, and what they mean."""


def _variants(name: str) -> set[str]:
    """Return an architecture's name and those of the classes that vLLM converts for it."""
    ending = next((suffix for suffix in CONVERTED if name.endswith(suffix)), None)
    stem = name[: -len(ending)] if ending else name
    return {name} | ({stem + suffix for suffix in CONVERTED} if ending else set())


def _is_own_type(package: str, config: dict[str, Any]) -> bool:
    """Return whether vLLM has a configuration for the model_type, which may name another architecture."""
    kind = str(config.get("model_type", ""))
    text = reading.text(os.path.join(package, "transformers_utils", "config.py"))
    return bool(kind) and bool(re.search(r"\b%s=\"|\"%s\": *\"" % (re.escape(kind), re.escape(kind)), text))


def _by_transformers(packages: str, name: str, config: dict[str, Any]) -> bool:
    """Return whether the Transformers library may serve an architecture for vLLM.

    vLLM accepts classes that declare `_supports_attention_backend` (transformers, modeling_utils.py).
    """
    kind = str(config.get("model_type", "")).replace("-", "_")
    if config.get("is_encoder_decoder") or not kind.isidentifier():
        return False
    path = os.path.join(packages, "transformers", "models", kind, "modeling_%s.py" % kind)
    text = reading.text(path)
    return "class %s(" % name in text and "_supports_attention_backend = True" in text


def _format(package: str, config: dict[str, Any]) -> Optional[Verdict]:
    """Return a verdict if vLLM does not load the number format in `quantization_config`."""
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if not isinstance(method, str) or not method:
        return None
    known = _methods(os.path.join(package, "model_executor", "layers", "quantization", "__init__.py"))
    if not known or SAME_FORMAT.get(method, method) in known:
        return None
    return {"verdict": "format", "what": method[:60], "detail": ""}


def _methods(path: str) -> set[str]:
    """Return the words of `QuantizationMethods = Literal[...]`."""
    for target, value in _assignments(path):
        if target == "QuantizationMethods":
            return {
                node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
    return set()


def _tables(path: str) -> dict[str, dict[str, Any]]:
    """Return the dictionaries of a module that consist of texts, by name; values other than texts become None."""
    tables = {}
    for target, value in _assignments(path):
        if isinstance(value, ast.Dict):
            texts = [item.value if isinstance(item, ast.Constant) else None for item in value.values]
            keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
            tables[target] = {str(key): texts[place] for place, key in enumerate(keys) if isinstance(key, str)}
    return tables


def _assignments(path: str) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names and values that a module assigns at its top level."""
    try:
        body = ast.parse(reading.text(path)).body
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def _has_plugins(packages: str) -> bool:
    """Return whether an installed package extends vLLM."""
    paths = glob.glob(os.path.join(glob.escape(packages), "*.dist-info", "entry_points.txt"))
    return any("[vllm.general_plugins]" in reading.text(path) for path in paths if "/vllm-" not in path)


def _package(venv: str, name: str) -> Optional[str]:
    found = glob.glob(os.path.join(glob.escape(venv), "lib", "python3*", "site-packages", name))
    return found[0] if found else None
