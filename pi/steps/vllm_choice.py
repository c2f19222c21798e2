"""Which vLLM a setup installs."""

from __future__ import annotations

from dataclasses import dataclass

from pi import config
from pi.errors import InputError
from pi.planning import catalog, families
from pi.vllm.versions import NIGHTLY


@dataclass(frozen=True)
class VllmChoice:
    kind: str
    """"release", "nightly" or "gpt-oss"."""
    min_version: str | None = None
    packages: tuple[str, ...] = ()
    """What the model needs besides vLLM, as pip requirements."""


def vllm_for(kind: str | None, model: str | None) -> VllmChoice:
    """Choose the vLLM of this kind that a model needs. Raises InputError if pi knows nothing of it."""
    if model is None:
        return VllmChoice(kind or "release")
    found = catalog.load(config.config_dir()).find(model)
    if found is None:
        return VllmChoice(kind or "release", None, _packages(model))
    spec, variant = found
    if variant.min_vllm != NIGHTLY:
        return VllmChoice(kind or "release", variant.min_vllm, spec.packages)
    if kind not in (None, NIGHTLY):
        raise InputError("needs-nightly", f"no vLLM release serves {model} yet", f"remove --vllm {kind}")
    return VllmChoice(NIGHTLY, None, spec.packages)


def _packages(model: str) -> tuple[str, ...]:
    """Return the packages of a model's family. Raises InputError for a model without any."""
    family = families.load().named(model)
    if family is None or not family.packages:
        raise InputError("for-unknown-model", f"--for {model!r} is not in the catalog", "see: pi models")
    return family.packages
