"""Flags that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.fabric_tasks.flags import flag
from pi.fabric_tasks.reading import PodFlag


@dataclass(frozen=True)
class PodOptions(PodFlag):
    """The options of a verb that works on one pod."""


def machine_flag() -> Any:
    """Declare the flag for a machine that is not a pod yet."""
    return flag("MACHINE", 'instead of a pod, an idle machine such as "2x RTX 4090"', excludes="--pod")
