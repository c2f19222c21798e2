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
    if not old:
        return facts
    if len(old) == len(facts.gpus):
        raise InputError("gpus-too-old", why(old), f"use a pod with GPUs of compute capability {LEAST} or newer")
    return replace(facts, gpus=tuple(gpu for gpu in facts.gpus if gpu not in old))


def too_old(gpus: Sequence[Gpu]) -> list[Gpu]:
    return [gpu for gpu in gpus if hardware.is_too_old(gpu)]


def why(old: Sequence[Gpu]) -> str:
    """Say why vLLM does not serve on these GPUs, such as "vLLM does not run on 2x Tesla P40: ..."."""
    kinds = Counter((gpu.name, "{}.{}".format(*hardware.capability(gpu))) for gpu in old)
    names = ", ".join(f"{number}x {name} (compute capability {has})" for (name, has), number in kinds.items())
    return f"vLLM does not run on {names}: it needs {LEAST} or newer"
