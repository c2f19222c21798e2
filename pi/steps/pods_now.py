"""What pods report of themselves now, for `pi pods --pod a,b` and `--all-pods`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.steps import group, listing, reconcile, where
from pi.steps.group import Asked
from pi.steps.listing import Seen

if TYPE_CHECKING:
    from pi.calls.status import Status
    from pi.steps.json_shapes import ErrorJson


@dataclass(frozen=True)
class Now:
    """A pod now; with `error`, it did not answer, and the rest is unknown."""

    error: ErrorJson | None = None
    up_s: float | None = None
    idle_s: float | None = None
    """Seconds since the last request to any of its models."""
    used_mib: tuple[tuple[int, int], ...] = ()
    """Used memory of each GPU, by its index."""
    total_mib: int = 0

    def sentence(self) -> str:
        """Describe the pod, such as "up 3 h; 55.9 of 159.2 GB of GPU memory in use; last request 12 min ago"."""
        if self.up_s is None:
            return "did not answer"
        used = sum(mib for _, mib in self.used_mib) / 1024
        memory = f"; {used:.1f} of {self.total_mib / 1024:.1f} GB of GPU memory in use" if self.total_mib else ""
        asked = "" if self.idle_s is None else f"; last request {screen.ago(self.idle_s)}"
        return f"up {screen.age(self.up_s)}{memory}{asked}"


def ask(c: Any, names: str | None, every: bool) -> tuple[dict[str, Now], list[Asked[Seen]]]:
    """Ask the pods, all at the same time, and correct pods.json. Returns what each is now, and its answer."""
    asked = group.ask(c, where.several(c, names, every), listing.see, listing.prepare)
    for each in asked:
        if each.answer:
            reconcile.reconcile(each.pod, each.answer.status)
    return {each.pod.name: _now(each) for each in asked}, asked


def raise_failed(asked: Sequence[Asked[Seen]]) -> None:
    group.raise_failed(asked)


def _now(asked: Asked[Seen]) -> Now:
    if asked.answer is None:
        return Now(group.error_json(asked.error))
    status = asked.answer.status
    return Now(
        None,
        status.up_s,
        _idle_s(status),
        tuple((gpu.id, gpu.used_mib) for gpu in status.gpus),
        sum(gpu.memory_mib for gpu in status.gpus),
    )


def _idle_s(status: Status) -> float | None:
    return min((found.asked_s_ago for found in status.found if found.asked_s_ago is not None), default=None)
