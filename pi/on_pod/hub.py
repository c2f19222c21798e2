"""Facts of a model from the Hugging Face hub, asked with the pod's token."""

from __future__ import annotations

import json
import os
import subprocess
from fnmatch import fnmatch
from typing import Any, Iterable, Optional
from urllib.parse import quote
from urllib.request import Request, urlopen

from pi.on_pod.shapes import ModelSize

SKIPPED = ("original/*", "metal/*", "*.pth", "*.gguf", "*.onnx")
"""Copies of the weights that vLLM does not load from such repositories; pi does not fetch them."""

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.h5", "*.msgpack")
"""Weights, which pi does not fetch from a repository of which vLLM reads only the small files."""

TIMEOUT_S = 8

INDEX = "model.safetensors.index.json"


def describe(model: str) -> ModelSize:
    """Return a model's config and the size of its weights."""
    sizes = file_sizes(model)
    index = json_file(model, INDEX) if INDEX in sizes else None
    return {"config": json_object(json_file(model, "config.json")), "weights_bytes": weights_bytes(sizes, index)}


def json_object(value: Any) -> Optional[dict[str, Any]]:
    """Return the value if it is a JSON object, else None."""
    return value if isinstance(value, dict) else None


def weights_bytes(sizes: dict[str, int], index: Any) -> Optional[int]:
    """Return the size of the weights that vLLM loads: the files of the index, or all safetensors without one.

    A repository may contain the same weights twice, such as Mistral's `consolidated.safetensors`.
    """
    try:
        loaded = set(index["weight_map"].values())
    except (TypeError, KeyError, AttributeError):
        loaded = {name for name in sizes if name.endswith(".safetensors")}
    return sum(size for name, size in sizes.items() if name in loaded) or None


def json_file(model: str, name: str) -> Any:
    """Return a JSON file of a repository, or None if it cannot be fetched."""
    try:
        return _get(model + "/resolve/main/" + name)
    except (OSError, ValueError):
        return None


def download_bytes(model: str, revision: Optional[str], skipped: Iterable[str]) -> Optional[int]:
    """Return the bytes of the files that pi will fetch; None if the hub does not report them."""
    return sum(file_sizes(model, revision, skipped).values()) or None


def file_sizes(model: str, revision: Optional[str] = None, skipped: Iterable[str] = SKIPPED) -> dict[str, int]:
    """Return the sizes of a repository's files without the skipped ones; empty if the hub does not report them.

    `GET /api/models/ID[/revision/REVISION]?blobs=true` lists `siblings` with `rfilename` and `size` (Hugging Face Hub
    API).
    """
    place = model + ("/revision/" + quote(revision, safe="") if revision else "")
    try:
        siblings = _get("api/models/" + place + "?blobs=true")["siblings"]
        sizes = {str(file["rfilename"]): int(file.get("size") or 0) for file in siblings}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: size for name, size in sizes.items() if not any(fnmatch(name, pattern) for pattern in skipped)}


def _get(path: str) -> Any:
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/") + "/" + path
    token = _token()
    headers = {"Authorization": "Bearer " + token} if token else {}
    with urlopen(Request(address, headers=headers), timeout=TIMEOUT_S) as reply:
        return json.loads(reply.read(16 << 20))


def _token() -> str:
    """Return HF_TOKEN from the environment file of the setup, as a login shell reads it."""
    done = subprocess.run(
        ["bash", "-c", '. ~/.pi/env.sh && printf %s "${HF_TOKEN:-}"'],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return done.stdout.decode("utf-8", "replace")
