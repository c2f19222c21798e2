"""Refusals of models that no vLLM of the pod can load, before anything is downloaded."""

from __future__ import annotations

import re

from pi.errors import InputError
from pi.planning import families
from pi.planning.catalog import Catalog
from pi.planning.manners import Manners
from pi.planning.model_card import ModelCard, Verdict
from pi.planning.near import near_misses
from pi.planning.types import PodFacts, Request
from pi.vllm.venvs import VENV

NAMED = (
    (r".*-gguf", "GGUF"),
    (r".*-mlx(-.*)?", "MLX"),
    (r".*-exl2(-.*)?|.*-\d(\.\d+)?bpw.*", "EXL2"),
    (r".*-exl3(-.*)?", "EXL3"),
    (r".*-onnx(-.*)?", "ONNX"),
    (r"faster-whisper-.*", "CTranslate2"),
)
"""Formats of files that vLLM does not load, by name. vLLM 0.32 and 0.33 load GGUF only with a plugin."""


OWNERS = {"mlx-community": "MLX"}
"""Owners on the hub whose repositories all have such a format."""


def refusal(request: Request, facts: PodFacts, made: Manners, catalog: Catalog) -> InputError | None:
    """Return the error for a model that the pod's vLLMs do not serve, or None."""
    model, card = request.model, facts.model_card
    if card.absent:
        return _absent(model, catalog)
    if found := unreadable_format(model, facts):
        return InputError(
            "format-not-served", f"vLLM does not load the {found} files of {model}", _instead(model, card, catalog)
        )
    if card.adapter:
        hint = _instead(model, card, catalog)
        return InputError("adapter-not-model", f"{model} is a LoRA adapter, not a model", hint)
    if venv_of(facts) is None and "--hf-overrides" not in made.args:  # they name another architecture
        return _by_verdict(model, card.verdicts[VENV], facts, _instead(model, card, catalog))
    if made.kind == "unsupported" and VENV not in card.verdicts:
        return InputError(
            "model-not-served",
            f"vLLM does not serve {model}",
            "choose another model; pi models lists those of the catalog",
        )
    return None


def venv_of(facts: PodFacts) -> tuple[str, str | None] | None:
    """Return folder and version of the vLLM that serves the model by its own verdict, or None if none does.

    ~/venv comes first, and may serve a model without a verdict.
    """
    verdicts = facts.model_card.verdicts
    if VENV not in verdicts or verdicts[VENV].verdict == "served":
        return VENV, facts.vllm_version
    serving = [folder for folder in sorted(facts.extra_venvs) if _serves(verdicts.get(folder))]
    return (serving[0], facts.extra_venvs[serving[0]]) if serving else None


def _serves(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.verdict == "served"


def unreadable_format(model: str, facts: PodFacts) -> str | None:
    """Return the format of a repository's files if vLLM does not load it, by its files or its name."""
    if facts.weights_bytes is None and facts.model_card.gguf:
        return "GGUF"
    quantization = (facts.config or {}).get("quantization")
    if isinstance(quantization, dict) and "group_size" in quantization and "quant_method" not in quantization:
        return "MLX"
    if facts.config is not None and facts.weights_bytes is not None:
        return None
    if found := OWNERS.get(model.partition("/")[0].lower()):
        return found
    name = families.plain(model)
    return next((found for pattern, found in NAMED if re.fullmatch(pattern, name)), None)


def unknown_id(model: str, catalog: Catalog) -> InputError | None:
    """Return the error for a name without its owner that is close to a known id, or None."""
    if "/" in model or ((family := families.load().named(model)) is not None and family.name == families.BASE):
        return None
    return (
        InputError("unknown-model", f"unknown model {model!r}", hint) if (hint := _suggestion(model, catalog)) else None
    )


def misspelled(model: str, catalog: Catalog) -> str:
    """Return a question about known ids of the same owner that are close to an id nobody has checked, or nothing."""
    owner, slash, _ = model.lower().partition("/")
    close = [each for each in near_misses(model, catalog, families.load()) if each.lower().startswith(f"{owner}/")]
    return f"pi does not know {model}; did you mean {' or '.join(close)}?" if slash and close else ""


def _absent(model: str, catalog: Catalog) -> InputError:
    hint = _suggestion(model, catalog) or "check the id; a private repository needs an HF_TOKEN: pi pods setup"
    return InputError("unknown-model", f"the hub has no model {model!r}, or none that the pod's token may read", hint)


def _suggestion(model: str, catalog: Catalog) -> str:
    close = near_misses(model, catalog, families.load())
    return f"did you mean {' or '.join(close)}?" if close else ""


def _by_verdict(model: str, verdict: Verdict, facts: PodFacts, instead: str) -> InputError:
    """Return the error for what the default venv's vLLM says of a model."""
    version = f"vLLM {facts.vllm_version or ''}".strip()
    what = verdict.what
    if verdict.verdict == "removed":
        problem = f"{version} no longer serves {model}: {what} was removed after vLLM {verdict.detail}"
        return InputError("model-not-served", problem, f"choose another model, or a vLLM up to {verdict.detail}")
    if verdict.verdict == "plugin":
        problem = f"{version} serves {model} ({what}) only with a plugin"
        return InputError("model-not-served", problem, f"its plugin: {verdict.detail}")
    if verdict.verdict == "format":
        return InputError("format-not-served", f"{version} does not load {what} weights of {model}", instead)
    problem = f"{version} does not serve {model}: it does not know {what}"
    return InputError("model-not-served", problem, "a newer vLLM may: pi pods setup with --vllm nightly --beside")


def _instead(model: str, card: ModelCard, catalog: Catalog) -> str:
    """Return a hint with the model that a repository was made from."""
    origin = next(iter(card.base_models), None) or _base_by_name(model, catalog)
    return f"start its base model: {origin}" if origin else "start the repository that it was made from"


def _base_by_name(model: str, catalog: Catalog) -> str | None:
    """Return the known id with the name of a copy, such as Qwen/Qwen3-8B for unsloth/Qwen3-8B-GGUF."""
    name = re.sub(r"(?i)[-_.](gguf|mlx|exl[23]|onnx|bnb-4bit|unsloth|[348]-?bit)\b.*", "", model.rpartition("/")[2])
    owner = model.partition("/")[0]
    listed = next((each for each in families.load().ids if each.lower() == f"{owner}/{name}".lower()), None)
    return listed or catalog.similar(name)
