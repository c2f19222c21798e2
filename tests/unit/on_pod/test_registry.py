"""What a pod's vLLM says of a model, from the text of its registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pi.on_pod import registry

REGISTRY = """
import torch
_TEXT_GENERATION_MODELS = {
    "LlamaForCausalLM": ("llama", "LlamaForCausalLM"),
    "Qwen3ForCausalLM": ("qwen3", "Qwen3ForCausalLM"),
}
_TRANSFORMERS_SUPPORTED_MODELS = {"SmolLM3ForCausalLM": ("transformers", "TransformersForCausalLM")}
_VLLM_MODELS = {**_TEXT_GENERATION_MODELS, **_TRANSFORMERS_SUPPORTED_MODELS}
_PREVIOUSLY_SUPPORTED_MODELS = {
    "MllamaForConditionalGeneration": "0.10.2",
    # a comment
    "MiniMaxM1ForCausalLM": "0.23.0",
}
_OOT_SUPPORTED_MODELS: dict[str, str] = {"BartModel": "https://github.com/vllm-project/bart-plugin"}
"""

QUANTIZATION = """
from typing import Literal
QuantizationMethods = Literal["awq", "fp8", "compressed-tensors", "inc"]
"""

CONFIGS = '_CONFIG_REGISTRY = LazyConfigDict(\n    minimax_m3="MiniMaxM3Config",\n)\n'

TRANSFORMERS = """
class GoodPreTrainedModel(PreTrainedModel):
    _supports_attention_backend = True
class GoodForCausalLM(GoodPreTrainedModel):
    pass
"""


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    packages = tmp_path / "venv" / "lib" / "python3.12" / "site-packages"
    for path, text in {
        "vllm/model_executor/models/registry.py": REGISTRY,
        "vllm/model_executor/layers/quantization/__init__.py": QUANTIZATION,
        "vllm/transformers_utils/config.py": CONFIGS,
        "transformers/models/good/modeling_good.py": TRANSFORMERS,
        "transformers/models/t5/modeling_t5.py": "class T5ForConditionalGeneration(T5PreTrainedModel):\n    pass\n",
        "vllm-0.33.0.dist-info/entry_points.txt": "[vllm.general_plugins]\nlora = vllm.plugins:lora\n",
    }.items():
        (packages / path).parent.mkdir(parents=True, exist_ok=True)
        (packages / path).write_text(text)
    return tmp_path / "venv"


def config(*architectures: str, **fields: Any) -> dict[str, Any]:
    return {"architectures": list(architectures), **fields}


VERDICTS: dict[str, tuple[dict[str, Any], tuple[str, str, str] | None]] = {
    "served": (config("LlamaForCausalLM"), ("served", "LlamaForCausalLM", "")),
    "served by the Transformers library": (config("SmolLM3ForCausalLM"), ("served", "SmolLM3ForCausalLM", "")),
    "converted": (config("Qwen3ForSequenceClassification"), ("served", "Qwen3ForSequenceClassification", "")),
    "one of two": (config("Unknown", "LlamaForCausalLM"), ("served", "Unknown", "")),
    "removed": (
        config("MllamaForConditionalGeneration"), ("removed", "MllamaForConditionalGeneration", "0.10.2"),
    ),
    "with a plugin": (config("BartModel"), ("plugin", "BartModel", "https://github.com/vllm-project/bart-plugin")),
    "unknown": (config("T5ForConditionalGeneration", model_type="t5"), ("unknown", "T5ForConditionalGeneration", "")),
    "an encoder and a decoder": (
        config("GoodForCausalLM", model_type="good", is_encoder_decoder=True), ("unknown", "GoodForCausalLM", ""),
    ),
    "perhaps by the Transformers library": (config("GoodForCausalLM", model_type="good"), None),
    "of a type that vLLM reads itself": (config("RenamedForCausalLM", model_type="minimax_m3"), None),
    "with its own code": (config("OwnForCausalLM", auto_map={"AutoModel": "own.Own"}), None),
    "a format": (
        config("LlamaForCausalLM", quantization_config={"quant_method": "bitsandbytes"}), ("format", "bitsandbytes", ""),
    ),
    "a known format": (
        config("LlamaForCausalLM", quantization_config={"quant_method": "auto-round"}), ("served", "LlamaForCausalLM", ""),
    ),
    "a format without a name": (
        config("LlamaForCausalLM", quantization_config={"bits": 4}), ("served", "LlamaForCausalLM", ""),
    ),
    "nothing": ({}, None),
    "hostile": (config(), None),
    "hostile types": ({"architectures": [7], "quantization_config": "x"}, None),
    "a path as model_type": (config("X", model_type="../../etc"), ("unknown", "X", "")),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "expected"), VERDICTS.values(), ids=VERDICTS)
def test_verdict(venv: Path, facts: dict[str, Any], expected: tuple[str, str, str] | None) -> None:
    found = registry.verdict(str(venv), facts)
    assert (found and (found["verdict"], found["what"], found["detail"])) == expected


def test_no_verdict_without_a_registry_or_with_plugins(venv: Path, tmp_path: Path) -> None:
    mllama = config("MllamaForConditionalGeneration")
    assert registry.verdict(str(tmp_path / "other"), mllama) is None
    plugin = venv / "lib/python3.12/site-packages/vllm_mllama-1.0.dist-info/entry_points.txt"
    plugin.parent.mkdir()
    plugin.write_text("[vllm.general_plugins]\nmllama = vllm_mllama:register\n")
    assert registry.verdict(str(venv), mllama) is None
    path = venv / "lib/python3.12/site-packages/vllm/model_executor/models/registry.py"
    plugin.unlink()
    path.write_text("not python (")
    assert registry.verdict(str(venv), mllama) is None
