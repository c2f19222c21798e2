"""Model ids: Hugging Face repository ids, or directories on the pod."""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from pi.errors import InputError

PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
"""One part of a repository id (huggingface_hub.utils.validate_repo_id)."""


HUB = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/|hf://", re.IGNORECASE)
"""How the address of a repository on the hub begins."""

MAIN = "main"
"""The revision that pi serves."""


class Typed(NamedTuple):
    """A model as the user typed it: its id, and the checkpoint after a colon, such as fp8."""

    model: ModelId
    variant: str | None


def parse_typed(text: str) -> Typed:
    """Return the model in an id, an address on the hub, or a path; `ORG/NAME:fp8` names a checkpoint.

    Raises InputError for another address, another revision than main, or text that is not a model.
    """
    if text.startswith(("/", "~/")):
        return Typed(ModelId.parse(text), None)
    words, revision = _without_address(text)
    words, colon, variant = words.partition(":")
    words, at, named = words.partition("@")
    variant, late_at, late = variant.partition("@")
    revision = late if late_at else named if at else revision
    if (colon and not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", variant)) or ((at or late_at) and not revision):
        raise _invalid(text)
    if revision not in (None, MAIN):
        raise InputError(
            "revision-not-served",
            f"pi serves the revision main only, not {revision[:60]!r} of {ModelId.parse(words)}",
            f"add --set revision={revision[:60]}"
            if re.fullmatch(r"[A-Za-z0-9._-]+", revision)
            else "write the id alone",
        )
    return Typed(ModelId.parse(words), variant or None)


def _without_address(text: str) -> tuple[str, str | None]:
    """Return `ORG/NAME...` and the revision of an address on the hub; other text unchanged."""
    found = HUB.match(text)
    if found is None:
        if re.match(r"[a-z]+://", text, re.IGNORECASE):
            raise InputError(
                "model-id-invalid",
                f"{text[:80]!r} is not an address on huggingface.co",
                "pi downloads from the Hugging Face hub; use an id such as Qwen/Qwen3-8B, or a path on the pod",
            )
        return text, None
    parts = re.split(r"[?#]", text[found.end() :])[0].strip("/").split("/")
    if parts[0] in ("datasets", "spaces", "collections", "papers", "docs") or len(parts) < 2:
        raise _invalid(text)
    has_revision = len(parts) > 3 and parts[2] in ("tree", "blob", "resolve", "raw")
    if len(parts) > 2 and not has_revision:
        raise _invalid(text)
    return "/".join(parts[:2]), parts[3] if has_revision else None


def _invalid(text: str) -> InputError:
    return InputError(
        "model-id-invalid",
        f"invalid model {text[:80]!r}",
        "use a Hugging Face id such as Qwen/Qwen3-8B, or a path such as /mnt/models/mine",
    )


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
            raise _invalid(text)
        return cls(text)

    @property
    def is_path(self) -> bool:
        return self.startswith(("/", "~/"))
