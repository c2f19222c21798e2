"""Model ids: Hugging Face repository ids, or directories on the pod."""

from __future__ import annotations

import posixpath
import re

from pi.errors import InputError

PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
"""One part of a repository id (huggingface_hub.utils.validate_repo_id)."""


def check_model(model: str) -> str:
    """Return the model. Raises InputError unless it is `[owner/]name` or a path beginning with `/` or `~/`."""
    if model.startswith(("/", "~/")):
        clean = posixpath.normpath(model)
        if not model.isprintable() or ".." in model.split("/") or len(model) > 1024 or clean in ("/", "//", "~"):
            raise InputError(
                "model-path-invalid",
                f"invalid model path {model[:80]!r}",
                "use a full path on the pod, without '..'",
            )
        return clean
    parts = model.split("/")
    if len(parts) > 2 or not all(PART.fullmatch(part) for part in parts) or re.search(r"--|\.\.|\.git$", model):
        raise InputError(
            "model-id-invalid",
            f"{model[:80]!r} is neither a Hugging Face model nor a path on the pod",
            "use one such as Qwen/Qwen3-Coder-30B-A3B-Instruct or /mnt/models/mine; pi start lists known models",
        )
    return model


def is_path(model: str) -> bool:
    return model.startswith(("/", "~/"))
