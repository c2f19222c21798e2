"""Loads PyTorch and vLLM in the pod's venv, and holds the GPUs against what PyTorch was built for.

Runs as `python check_vllm.py cuda|cpu`. It prints `archs` with the built architectures, `old` with a GPU for which
PyTorch has no code, and `note` with remarks, each with a tab before the text. It fails if vLLM does not load, or if
PyTorch has no code for any GPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from archs import serves  # type: ignore[import-not-found]  # setup writes pi/on_pod/archs.py beside this file


def check_cards(torch: Any) -> None:
    """Print the GPUs that PyTorch has no code for. Exits if it has code for none."""
    archs = torch.cuda.get_arch_list()
    print("archs\t" + " ".join(archs))
    cards: dict[str, bool] = {}
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        card = f"{torch.cuda.get_device_name(index)} (compute capability {major}.{minor})"
        cards[card] = serves(archs, (major, minor))
    old = [card for card in cards if not cards[card]]
    for card in old:
        print("old\t" + card)
    if old and archs and len(old) == len(cards):
        sys.exit(f"PyTorch {torch.__version__} has no code for {', '.join(old)}; it was built for {' '.join(archs)}")


def main(device: str) -> None:
    torch = importlib.import_module("torch")
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch.cuda.is_available() is False: PyTorch {torch.__version__} cannot use this driver")
    if device == "cuda":
        check_cards(torch)
    platform = importlib.import_module("vllm.platforms").current_platform
    if device == "cuda":
        platform.import_kernels()
        for name in ("vllm._C", "vllm._C_stable_libtorch"):
            if importlib.util.find_spec(name):
                importlib.import_module(name)
    if platform.device_type != device:
        version = importlib.import_module("vllm").__version__
        sys.exit(f"vLLM {version} was built for {platform.device_type!r}, not {device}")


if __name__ == "__main__":
    main(sys.argv[1])
