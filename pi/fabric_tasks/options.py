"""Flags that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.fabric_tasks.flags import Options, flag, switch


@dataclass(frozen=True)
class PodOptions(Options):
    """The options of a verb that works on one pod."""

    pod: str | None = flag("P", "use this pod instead of the active one", short="-p", completes="pod")


@dataclass(frozen=True)
class PodsOptions(Options):
    """The options of a verb that works on one pod or several."""

    pod: str | None = flag("P[,P]", "use these pods instead of the active one", short="-p", completes="pod")
    all_pods: bool = switch("every pod, all at the same time", excludes="--pod")


def json_switch(*, requires: str = "") -> Any:
    """Declare `--json`; docs/json.md has the schema."""
    return switch("print JSON (schema: docs/json.md)", requires=requires)


def machine_flag() -> Any:
    """Declare the flag for a machine that is not a pod yet."""
    return flag("MACHINE", 'instead of a pod, an idle machine such as "2x RTX 4090"', excludes="--pod")
