"""Machines as people write them, such as "2x RTX 4090"; each becomes the facts of an idle pod."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pi.errors import InputError
from pi.planning import gpu_words
from pi.planning.catalog import Catalog
from pi.planning.gpu_kinds import Kind
from pi.planning.types import PodFacts
from pi.pods.gpus import Gpu
from pi.pods.mig import USABLE
from pi.vllm.versions import NIGHTLY, latest

MAX_GPUS = 16
"""Largest number of GPUs in one machine that providers rent."""

CPU_GB, CPU_CORES = 64, 8
"""Memory and cores of a "CPU" without further words."""

LONGEST = 100
"""Maximum characters of a machine's name."""

EXAMPLE = 'use a machine such as "2x RTX 4090"'

_COUNT_FIRST = re.compile(r"([0-9]{1,3})\s*x\s*(\S.*)|([0-9]{1,2})\s+(\S.*)")
"""Matches "2x rtx 4090" and "2 rtx 4090"."""

_COUNT_LAST = re.compile(r"(.*\S)(?<!\b[rg]t)(?<!\b[dh]g)\s*x\s*([0-9]{1,3})")
"""Matches "rtx 4090 x2", but not the X of a name such as RTX, GTX, DGX, HGX."""

_SEVERAL = re.compile(r"[+,;&/]|\band\b")


_SLICE = re.compile(r"(?:\bmig )?\b((?:[0-9]c\.)?[0-9]g\.([0-9]{1,3})gb)\b(?: mig\b)?")
"""Matches the profile of a slice of a GPU (MIG), such as "3g.40gb", and its memory."""


@dataclass(frozen=True)
class Machine:
    """`count` GPUs of a kind, or a CPU with `memory_gb` if `kind` is None.

    With a `profile`, each is a slice of a GPU (MIG) with `memory_gb`.
    """

    kind: Kind | None
    count: int = 0
    memory_gb: int = CPU_GB
    profile: str = ""

    @property
    def title(self) -> str:
        """Its name, which `parse` reads."""
        if self.kind is None:
            return f"CPU {self.memory_gb}GB"
        return f"{self.count}x {self.kind.title}{f' MIG {self.profile}' if self.profile else ''}"


def parse(text: str) -> Machine:
    """Return the machine that a user names. Raises InputError with the names that are close."""
    plain = gpu_words.simplify(text)
    if not plain or len(text) > LONGEST or not plain.isprintable():
        raise InputError("machine-invalid", f"invalid machine {text[:LONGEST]!r}", EXAMPLE)
    if _SEVERAL.search(plain):
        raise InputError("machine-mixed", f"{text!r} is more than one machine", "a model uses GPUs of one kind")
    count, name = _counted(plain)
    each, kind = _counted(name)
    if count is not None and each is not None:
        raise InputError("machine-of-pods", f"{text!r} is more than one pod", f'plan one pod: "{each}x {kind}"')
    if cpu := _cpu(name):
        if count not in (None, 1):
            raise InputError("machine-invalid", f"invalid machine {text!r}", 'use "CPU", or "CPU 64GB" for its memory')
        return cpu
    count = 1 if count is None else count
    if not 1 <= count <= MAX_GPUS:
        raise InputError("machine-size-invalid", f"{text!r}: invalid number of GPUs", f"use 1 to {MAX_GPUS}")
    return _sliced(name, text, count) or Machine(gpu_words.find(name, text), count)


def _sliced(name: str, text: str, count: int) -> Machine | None:
    """Return the machine of a name with a slice's profile. Raises InputError for a slice that the GPU cannot have."""
    found = _SLICE.search(name)
    if found is None:
        return None
    profile, gb, rest = found[1], int(found[2]), " ".join(_SLICE.sub(" ", name).split())
    if not rest:
        raise InputError("slice-of-what", f"{text!r}: the slice lacks its GPU", f'use "H100 MIG {profile}"')
    kind = gpu_words.find(rest, text)
    if not 0 < gb * 1024 * USABLE < kind.memory_mib:
        raise InputError("gpu-memory-wrong", f"{text!r}: no slice of {kind.title} has that memory")
    return Machine(kind, count, gb, profile)


def idle_pod(machine: Machine, catalog: Catalog, prices: Mapping[str, float]) -> PodFacts:
    """Return a pod of this machine on which nothing runs.

    It has the newest vLLM that the catalog names, and extra venvs for models that need an older one.
    """
    older = {f"venv-{spec.max_vllm}": spec.max_vllm for spec in catalog.models if spec.max_vllm}
    facts = PodFacts((), vllm_version=newest_vllm(catalog), extra_venvs=older, prices=prices)
    if machine.kind is None:
        return replace(facts, device="cpu", memory_mib=machine.memory_gb * 1024, cpus=CPU_CORES)
    kind = machine.kind
    name, memory_mib = kind.title, kind.memory_mib
    if machine.profile:
        name, memory_mib = f"{name} MIG {machine.profile}", int(machine.memory_gb * 1024 * USABLE)
    gpu = Gpu(0, name, memory_mib, compute_capability=kind.capability)
    return replace(facts, gpus=tuple(replace(gpu, id=id) for id in range(machine.count)))


def newest_vllm(catalog: Catalog) -> str | None:
    """Return the newest release of vLLM that a model of the catalog names."""
    named = [variant.min_vllm for spec in catalog.models for variant in spec.variants]
    named += [spec.max_vllm for spec in catalog.models]
    return latest(version for version in named if version != NIGHTLY)


def _counted(plain: str) -> tuple[int | None, str]:
    """Return the number of GPUs, or None if the text has none, and the rest of the text."""
    if match := _COUNT_FIRST.fullmatch(plain):
        return int(match[1] or match[3]), match[2] or match[4]
    if match := _COUNT_LAST.fullmatch(plain):
        return int(match[2]), match[1]
    return None, plain


def _cpu(plain: str) -> Machine | None:
    words, memory = gpu_words.split(plain)
    if gpu_words.joined(words) not in ("cpu", "cpus") or len(memory) > 1 or (memory and memory[0] < 1):
        return None
    return Machine(None, 0, int(memory[0])) if memory else Machine(None)
