"""Which vLLM a setup installs."""

from __future__ import annotations

from dataclasses import dataclass

from pi import config
from pi.errors import InputError
from pi.planning import catalog
from pi.planning.catalog import ModelSpec, Variant
from pi.vllm.versions import NIGHTLY


@dataclass(frozen=True)
class VllmChoice:
    kind: str
    """"release", "nightly" or "gpt-oss"."""
    min_version: str | None = None
    packages: tuple[str, ...] = ()
    """What the model needs besides vLLM, as pip requirements."""


def vllm_for(kind: str | None, model: str | None) -> VllmChoice:
    """Choose the vLLM of this kind that a catalog model needs. Raises InputError if there is none."""
    if model is None:
        return VllmChoice(kind or "release")
    spec, variant = _in_catalog(model)
    if variant.min_vllm != NIGHTLY:
        return VllmChoice(kind or "release", variant.min_vllm, spec.packages)
    if kind not in (None, NIGHTLY):
        raise InputError("needs-nightly", f"no vLLM release serves {model} yet", f"remove --vllm {kind}")
    return VllmChoice(NIGHTLY, None, spec.packages)


def _in_catalog(model: str) -> tuple[ModelSpec, Variant]:
    found = catalog.load(config.config_dir()).find(model)
    if found is None:
        raise InputError("for-unknown-model", f"--for {model!r} is not in the catalog", "see: pi models")
    return found
