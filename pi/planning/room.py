"""The GPUs of a pod and the memory that is left on each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from pi.planning import hardware
from pi.planning.types import PodFacts
from pi.pods.gpus import Gpu, is_slice
from pi.pods.types import Deployment

SHARE = 0.92
"""Default share of a GPU's memory for one model: vLLM's own since it counts CUDA graphs within it."""

SHARED = 0.95
"""Limit of all shares on one GPU together."""

LEAST_SHARE = 0.05
"""Smallest free share of a GPU that another model can use."""

STARTING_MIB = 512
"""Memory of vLLM's CUDA context, which vLLM takes before it checks that its share is free."""

IDLE = 0.05
"""A GPU is idle if it uses less than this part of its memory."""


@dataclass(frozen=True)
class Slot:
    """A GPU and its models. `taken` is their share, `open` the share left for another model."""

    gpu: Gpu
    models: tuple[str, ...]
    taken: float
    open: float

    @property
    def use(self) -> tuple[bool, int, float, int, int]:
        """Sort key: idle GPUs first, then fewest models, smallest share, most free memory, index."""
        return self.busy, len(self.models), self.taken, -self.gpu.free_mib, self.gpu.id

    @property
    def busy(self) -> bool:
        """Whether any process holds memory of this GPU."""
        return bool(self.models) or self.gpu.used_mib > IDLE * self.gpu.memory_mib


@dataclass(frozen=True)
class Group:
    """GPUs of one kind; a model uses GPUs of one kind only."""

    by_use: tuple[Slot, ...]
    by_room: tuple[Slot, ...]
    labels: frozenset[str]

    @cached_property
    def gpu(self) -> Gpu:
        return self.by_use[0].gpu

    @property
    def memory_mib(self) -> int:
        return len(self.by_use) * self.gpu.memory_mib

    @cached_property
    def largest(self) -> int:
        """The most GPUs for one model: CUDA sees only one slice of a GPU (MIG)."""
        return 1 if is_slice(self.gpu) else len(self.by_use)

    @cached_property
    def idle(self) -> int:
        """The number of GPUs that no process uses, at most `largest`."""
        return min(self.largest, sum(not slot.busy for slot in self.by_use))

    def choices(self, count: int) -> Iterator[tuple[Slot, ...]]:
        """Yield the `count` least used GPUs, then those with the most room if they differ."""
        yield self.by_use[:count]
        if self.by_room[:count] != self.by_use[:count]:
            yield self.by_room[:count]


def slots(facts: PodFacts) -> tuple[Slot, ...]:
    """Return the pod's GPUs, least used first."""
    return tuple(sorted((_slot(gpu, facts.deployments) for gpu in facts.gpus), key=lambda slot: slot.use))


def _slot(gpu: Gpu, deployments: Iterable[Deployment]) -> Slot:
    here = [deployment for deployment in deployments if gpu.id in deployment.gpus]
    taken = _share_of(here)
    free = (gpu.free_mib - STARTING_MIB) / gpu.memory_mib if gpu.memory_mib else 0.0
    room = max(0.0, min(SHARED - taken, free))
    return Slot(gpu, tuple(d.name for d in here), round(taken, 4), int(room * 100 + 1e-6) / 100)


def groups(facts: PodFacts) -> tuple[Group, ...]:
    """Return the pod's GPUs by kind; the kind with the least used GPU comes first."""
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
    """Return the pod as if nothing ran on it."""
    return replace(facts, gpus=tuple(replace(gpu, used_mib=0) for gpu in facts.gpus), deployments=())


def without(facts: PodFacts, *names: str) -> PodFacts:
    """Return the pod as if these deployments had stopped and freed their memory.

    Their memory is what nvidia-smi reports for their processes, otherwise the shares in their plans.
    """
    gpus = tuple(replace(gpu, used_mib=max(0, gpu.used_mib - _held_mib(gpu, facts, names))) for gpu in facts.gpus)
    left = tuple(deployment for deployment in facts.deployments if deployment.name not in names)
    return replace(facts, gpus=gpus, deployments=left)


def _held_mib(gpu: Gpu, facts: PodFacts, names: tuple[str, ...]) -> int:
    reported = sum(process.mib for process in facts.processes if process.gpu == gpu.id and process.deployment in names)
    here = [d for d in facts.deployments if d.name in names and gpu.id in d.gpus]
    return reported or int(_share_of(here) * gpu.memory_mib)


def _share_of(deployments: Iterable[Deployment]) -> float:
    """Add up shares; a deployment without a known share has the whole GPU."""
    return sum(1.0 if deployment.memory_share is None else deployment.memory_share for deployment in deployments)


def gpu_ids(chosen: Iterable[Slot]) -> tuple[int, ...]:
    return tuple(sorted(slot.gpu.id for slot in chosen))


def gpu_users(facts: PodFacts) -> tuple[str, ...]:
    """Return the names of the deployments that hold GPUs of the pod."""
    return tuple(sorted(deployment.name for deployment in facts.deployments if deployment.gpus))
