"""What the Hugging Face hub says of a model, asked from the pod with the pod's token."""

from __future__ import annotations

import json
import os
import subprocess
from fnmatch import fnmatch
from typing import Any, Optional
from urllib.request import Request, urlopen

SKIPPED = ("original/*", "metal/*", "*.pth", "*.gguf", "*.onnx")
"""Copies of the weights in formats that vLLM does not load from such repositories; they are not fetched."""

TIMEOUT_S = 8

INDEX = "model.safetensors.index.json"


def describe(model: str) -> dict[str, Any]:
    """`config` (config.json, parsed) and `weights_bytes` (its safetensors) of a model; None where unknown."""
    found = sizes(model)
    index = _file(model, INDEX) if INDEX in found else None
    return {"config": _file(model, "config.json"), "weights_bytes": weights_bytes(found, index)}


def weights_bytes(found: dict[str, int], index: Any) -> Optional[int]:
    """Size of the weights that vLLM loads from files of these sizes: those of the index where there is one.

    A repository may hold the same weights once more, such as Mistral's `consolidated.safetensors`.
    """
    try:
        loaded = set(index["weight_map"].values())
    except (TypeError, KeyError, AttributeError):
        loaded = {name for name in found if name.endswith(".safetensors")}
    return sum(size for name, size in found.items() if name in loaded) or None


def _file(model: str, name: str) -> Any:
    """A JSON file of a repository; None where it cannot be had."""
    try:
        return _get(model + "/resolve/main/" + name)
    except (OSError, ValueError):
        return None


def download_bytes(model: str) -> Optional[int]:
    """Bytes of the files that will be fetched; None where the hub does not tell."""
    return sum(sizes(model).values()) or None


def sizes(model: str) -> dict[str, int]:
    """Sizes of a repository's files, without those that are skipped; empty where the hub does not tell.

    `GET /api/models/ID?blobs=true` lists `siblings` with `rfilename` and `size` (Hugging Face Hub API).
    """
    try:
        siblings = _get("api/models/" + model + "?blobs=true")["siblings"]
        found = {str(file["rfilename"]): int(file.get("size") or 0) for file in siblings}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: size for name, size in found.items() if not any(fnmatch(name, pattern) for pattern in SKIPPED)}


def _get(path: str) -> Any:
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/") + "/" + path
    token = _token()
    headers = {"Authorization": "Bearer " + token} if token else {}
    with urlopen(Request(address, headers=headers), timeout=TIMEOUT_S) as reply:
        return json.loads(reply.read(16 << 20))


def _token() -> str:
    """HF_TOKEN as setup stored it, read the way a login shell does."""
    done = subprocess.run(
        ["bash", "-c", '. ~/.pi/env.sh && printf %s "${HF_TOKEN:-}"'],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return done.stdout.decode("utf-8", "replace")
