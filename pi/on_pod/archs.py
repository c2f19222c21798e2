"""Which GPUs the code of a PyTorch runs on. Setup's test of vLLM imports this file too, without pi."""

from __future__ import annotations

import re
from typing import Iterable, Tuple


def serves(archs: Iterable[str], capability: Tuple[int, int]) -> bool:
    """Return whether code for one of these architectures runs on a GPU, such as sm_80 on capability (8, 6).

    Machine code runs within its major version, code of PTX on every newer GPU. `sm_90a` runs on 9.0 alone, `sm_100f`
    within its family.
    """
    for arch in archs:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch, re.ASCII)
        if not found:
            continue
        kind, built, suffix = found[1], (int(found[2]), int(found[3])), found[4]
        if suffix == "a":
            is_served = built == capability
        elif kind == "sm" or suffix == "f":
            is_served = built[0] == capability[0] and built[1] <= capability[1]
        else:
            is_served = built <= capability
        if is_served:
            return True
    return False
