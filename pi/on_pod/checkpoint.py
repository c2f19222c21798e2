"""Which files of a repository vLLM loads as weights, and which are copies in another format."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import Any, Iterable, Optional

SKIPPED = (
    "original/*",
    "metal/*",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "*.pth",
    "*.gguf",
    "*.onnx",
    "*.onnx_data",
    "*.h5",
    "*.msgpack",
    "*.ot",
)
"""Copies of the weights that vLLM does not load from such repositories; pi does not fetch them."""

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.h5", "*.msgpack")
"""Weights. pi does not fetch them if vLLM reads only the small files of a repository."""

INDEX = "model.safetensors.index.json"

MISTRAL = "consolidated*.safetensors"
"""Weights in Mistral's own format. vLLM prefers them if `--load-format` is auto (default_loader.py, 0.32 and 0.33)."""

MISTRAL_INDEX = "consolidated.safetensors.index.json"

SHARD = re.compile(r".+-\d{5}-of-\d{5}\.safetensors")

NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin", "random_states*.bin", "tokenizer*.bin")
"""Files of a training run; vLLM ignores them."""


def is_one_of(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def is_mistral(names: Iterable[str], load_format: str = "auto") -> bool:
    """Return whether vLLM loads Mistral's own format from a repository with these files."""
    has_it = any(fnmatch(name, MISTRAL) for name in names)
    return has_it and load_format in ("auto", "mistral")


def loaded(names: Iterable[str], index: Any = None, load_format: str = "auto") -> set[str]:
    """Return the files that vLLM loads as weights.

    `index` is the content of the index of the chosen format. Without a valid one, a whole file beside shards is a copy.
    Files in folders are no weights of the model itself.
    """
    top = {name for name in names if "/" not in name}
    tensors = {name for name in top if name.endswith(".safetensors")}
    if not tensors:
        return {n for n in top if n.endswith(".bin") and not any(fnmatch(n, pattern) for pattern in NOT_WEIGHTS)}
    consolidated = {name for name in tensors if fnmatch(name, MISTRAL)}
    chosen = consolidated if is_mistral(top, load_format) else tensors - consolidated or tensors
    indexed = _indexed(index) & chosen
    if indexed:
        return indexed
    has_shards = any(SHARD.fullmatch(name) for name in chosen)
    return {n for n in chosen if not has_shards or n not in ("model.safetensors", "consolidated.safetensors")}


def index_name(names: Iterable[str], load_format: str = "auto") -> Optional[str]:
    """Return the index of the format that vLLM loads, if the repository has it."""
    present = set(names)
    wanted = MISTRAL_INDEX if is_mistral(present, load_format) else INDEX
    return wanted if wanted in present else None


def copies(names: Iterable[str], load_format: str = "auto") -> list[str]:
    """Return files of the same weights in formats that vLLM does not load, in order."""
    present = set(names)
    tensors = {name for name in present if name.endswith(".safetensors") and "/" not in name}
    if not tensors:
        return []
    consolidated = {name for name in tensors if fnmatch(name, MISTRAL)}
    unused = tensors - consolidated if is_mistral(present, load_format) else consolidated
    if unused == tensors:
        unused = set()
    bins = {name for name in present if fnmatch(name, "pytorch_model*.bin") and "/" not in name}
    return sorted(name for name in unused | bins if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name))


def weights_bytes(sizes: dict[str, int], index: Any, load_format: str = "auto") -> Optional[int]:
    """Return the bytes of the weights that vLLM loads, or None if there are none."""
    return sum(sizes[name] for name in loaded(sizes, index, load_format)) or None


def _indexed(index: Any) -> set[str]:
    try:
        return set(map(str, index["weight_map"].values()))
    except (TypeError, KeyError, AttributeError):
        return set()


def whole(names: Iterable[str], index: Any, load_format: str = "auto") -> bool:
    """Return whether all weights are among these files; `index` is that of the loaded format, None without one."""
    present = set(names)
    if not {"config.json", "params.json"} & present:
        return False
    if index is not None:
        return bool(_indexed(index)) and _indexed(index) <= present
    weights = loaded(present, None, load_format)
    return bool(weights) and _all_shards(weights)


def _all_shards(weights: set[str]) -> bool:
    """Return whether a set of shards is complete, by the total in their names."""
    totals = [re.search(r"-\d{5}-of-(\d{5})\.", name) for name in weights]
    expected = max((int(total[1]) for total in totals if total), default=0)
    return sum(total is not None for total in totals) >= expected
