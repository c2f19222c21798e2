"""Which GPUs of a pod vLLM can serve on, by their compute capability."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from pi.errors import BusyError, InputError
from pi.planning import hardware
from pi.planning.types import PodFacts
from pi.pods.gpus import Gpu

AMD = "this pod has AMD GPUs, and pi serves models on NVIDIA GPUs or on a CPU"

LEAST = "{}.{}".format(*hardware.OLDEST)


def checked(facts: PodFacts) -> PodFacts:
    """Return the facts with only the GPUs that vLLM serves on. Raises InputError or BusyError if none is left."""
    if facts.device == "amd":
        raise InputError("amd-gpus", AMD, "use a pod with NVIDIA GPUs")
    if facts.device == "unknown":
        reason = facts.unread_gpus[0] if facts.unread_gpus else "nvidia-smi shows none"
        raise BusyError("gpus-unreadable", f"cannot read the pod's GPUs: {reason}", "run setup again for the details")
    old = too_old(facts.gpus)
    foreign = [gpu for gpu in facts.gpus if gpu.id in facts.without_code and gpu not in old]
    unserved = [*old, *foreign]
    if not unserved:
        return facts
    if len(old) == len(facts.gpus):
        raise InputError("gpus-too-old", why(old), f"use a pod with GPUs of compute capability {LEAST} or newer")
    if len(unserved) == len(facts.gpus):
        reason = f"the PyTorch of this pod has no code for {_named(foreign)}"
        raise InputError("gpus-without-code", reason, "install builds for this GPU: run setup again with --upgrade")
    return replace(facts, gpus=tuple(gpu for gpu in facts.gpus if gpu not in unserved))


def too_old(gpus: Sequence[Gpu]) -> list[Gpu]:
    return [gpu for gpu in gpus if hardware.is_too_old(gpu)]


def why(old: Sequence[Gpu]) -> str:
    """Say why vLLM does not serve on these GPUs, such as "vLLM does not run on 2x Tesla P40: ..."."""
    return f"vLLM does not run on {_named(old)}: it needs {LEAST} or newer"


def _named(gpus: Sequence[Gpu]) -> str:
    kinds = Counter((gpu.name, "{}.{}".format(*hardware.capability(gpu))) for gpu in gpus)
    return ", ".join(f"{number}x {name} (compute capability {has})" for (name, has), number in kinds.items())
