"""Model ids: Hugging Face repository ids, or directories on the pod."""

from __future__ import annotations

import posixpath
import re

from pi.errors import InputError

PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
"""One part of a repository id (huggingface_hub.utils.validate_repo_id)."""


class ModelId(str):
    """A Hugging Face repository id, or the path of a directory on the pod."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> ModelId:
        """Check `[owner/]name` or a path that begins with `/` or `~/`. Raises InputError for other text."""
        if text.startswith(("/", "~/")):
            path = posixpath.normpath(text)
            if not text.isprintable() or ".." in text.split("/") or len(text) > 1024 or path in ("/", "//", "~"):
                raise InputError(
                    "model-path-invalid", f"invalid model path {text[:80]!r}", "write the full path, without '..'"
                )
            return cls(path)
        parts = text.split("/")
        if len(parts) > 2 or not all(PART.fullmatch(part) for part in parts) or re.search(r"--|\.\.|\.git$", text):
            raise InputError(
                "model-id-invalid",
                f"invalid model {text[:80]!r}",
                "use a Hugging Face id such as Qwen/Qwen3-8B, or a path such as /mnt/models/mine",
            )
        return cls(text)

    @property
    def is_path(self) -> bool:
        return self.startswith(("/", "~/"))
