"""Choose GPUs for a model of unknown size."""

from __future__ import annotations

from pi.errors import InputError
from pi.planning.refusals import busy
from pi.planning.room import Slot, groups
from pi.planning.types import PodFacts
from pi.text import count


def least_used(facts: PodFacts, size: int, share: float) -> tuple[Slot, ...]:
    """Return the least used GPUs of one kind with `share` free. Raises InputError or BusyError."""
    if not facts.gpus:
        raise InputError("no-gpu", "the pod has no GPU")
    if not any(len(group.by_use) >= size for group in groups(facts)):
        raise InputError("too-many-gpus", f"the pod does not have {count(size, 'GPU')} of one kind")
    chosen = _with_room(facts, size, share)
    if chosen:
        return chosen

    def fits(facts: PodFacts, gpus: int = size, memory: float = share) -> bool:
        return bool(_with_room(facts, gpus, memory))

    what = f"no GPU has {share:.0%} of its" if size == 1 else f"no {size} GPUs of one kind have {share:.0%} of their"
    raise busy(f"{what} memory free", facts, fits)


def _with_room(facts: PodFacts, size: int, share: float) -> tuple[Slot, ...]:
    for group in groups(facts):
        fitting = tuple(slot for slot in group.by_use if slot.open >= share)
        if len(fitting) >= size:
            return fitting[:size]
    return ()
