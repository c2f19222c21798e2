"""The GPUs of a pod and the room that is left on each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pi.planning import hardware
from pi.planning.types import PodFacts
from pi.pods.gpus import Gpu
from pi.pods.types import Deployment

SHARE = 0.9
"""Share of a GPU's memory that a model gets unless the user or its recipe says otherwise."""

SHARED = 0.95
"""What the shares of all models on one GPU may add up to."""

LEAST_SHARE = 0.05
"""What must be left of a GPU for one more model."""

STARTING_MIB = 512
"""What vLLM's CUDA context takes before vLLM looks whether its share is free."""

IDLE = 0.05
"""A GPU with less than this part of its memory in use counts as really free."""


@dataclass(frozen=True)
class Slot:
    """A GPU and what is left of it: `taken` is the sum of its models' shares, `open` the share one more may have."""

    gpu: Gpu
    models: tuple[str, ...]
    taken: float
    open: float

    @property
    def use(self) -> tuple[bool, int, float, int, int]:
        """Sorts GPUs by use: really free ones, then fewest models, least share, most free memory, index."""
        return self.busy, len(self.models), self.taken, -self.gpu.free_mib, self.gpu.id

    @property
    def busy(self) -> bool:
        """Whether something holds memory of this GPU, pi's or not."""
        return bool(self.models) or self.gpu.used_mib > IDLE * self.gpu.memory_mib


@dataclass(frozen=True)
class Group:
    """GPUs of one kind: a model is never spread over different ones."""

    by_use: tuple[Slot, ...]
    by_room: tuple[Slot, ...]
    labels: frozenset[str]

    @property
    def gpu(self) -> Gpu:
        return self.by_use[0].gpu

    @property
    def memory_mib(self) -> int:
        return len(self.by_use) * self.gpu.memory_mib

    def choices(self, count: int) -> Iterator[tuple[Slot, ...]]:
        """The `count` least used GPUs; then, where those are others, the ones with the most room."""
        yield self.by_use[:count]
        if self.by_room[:count] != self.by_use[:count]:
            yield self.by_room[:count]


def slots(facts: PodFacts) -> tuple[Slot, ...]:
    """The pod's GPUs with what is left of each, least used first."""
    return tuple(sorted((_slot(gpu, facts.deployments) for gpu in facts.gpus), key=lambda slot: slot.use))


def _slot(gpu: Gpu, deployments: Iterable[Deployment]) -> Slot:
    here = [deployment for deployment in deployments if gpu.id in deployment.gpus]
    taken = sum(1.0 if d.memory_share is None else d.memory_share for d in here)
    free = (gpu.free_mib - STARTING_MIB) / gpu.memory_mib if gpu.memory_mib else 0.0
    room = max(0.0, min(SHARED - taken, free))
    return Slot(gpu, tuple(d.name for d in here), round(taken, 4), int(room * 100 + 1e-6) / 100)


def groups(facts: PodFacts) -> tuple[Group, ...]:
    """The pod's GPUs by kind, the kind of the least used one first."""
    kinds: dict[tuple[str, int], list[Slot]] = {}
    for slot in slots(facts):
        kinds.setdefault((slot.gpu.name, slot.gpu.memory_mib), []).append(slot)
    return tuple(
        Group(
            tuple(alike),
            tuple(sorted(alike, key=lambda slot: -slot.open)),
            hardware.labels(alike[0].gpu),
        )
        for alike in kinds.values()
    )


def idle(facts: PodFacts) -> PodFacts:
    """The same pod with nothing running on it."""
    return replace(facts, gpus=tuple(replace(gpu, used_mib=0) for gpu in facts.gpus), deployments=())


def without(facts: PodFacts, *names: str) -> PodFacts:
    """The same pod once these deployments have stopped, with the memory free that they held.

    That is what nvidia-smi says of their processes or, where it names none of them, the shares they were given.
    """
    gpus = tuple(replace(gpu, used_mib=max(0, gpu.used_mib - _held_mib(gpu, facts, names))) for gpu in facts.gpus)
    left = tuple(deployment for deployment in facts.deployments if deployment.name not in names)
    return replace(facts, gpus=gpus, deployments=left)


def _held_mib(gpu: Gpu, facts: PodFacts, names: tuple[str, ...]) -> int:
    told = sum(process.mib for process in facts.processes if process.gpu == gpu.id and process.deployment in names)
    here = [d for d in facts.deployments if d.name in names and gpu.id in d.gpus]
    return told or int(sum(1.0 if d.memory_share is None else d.memory_share for d in here) * gpu.memory_mib)
