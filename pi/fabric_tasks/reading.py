"""Flags of verbs that read. This module loads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi.fabric_tasks.flags import Options, flag, switch


@dataclass(frozen=True)
class PodFlag(Options):
    """The options of a verb that works on one pod and loads no planner."""

    pod: str | None = flag("P", "use this pod instead of the active one", short="-p", completes="pod")


@dataclass(frozen=True)
class PodsOptions(Options):
    """The options of a verb that works on one pod or several."""

    pod: str | None = flag("P[,P]", "use these pods instead of the active one", short="-p", completes="pod")
    all_pods: bool = switch("every pod, all at the same time", excludes="--pod")


def json_switch(*, requires: str = "") -> Any:
    """Declare `--json`; docs/json.md has the schema."""
    return switch("print JSON (schema: docs/json.md)", requires=requires)
