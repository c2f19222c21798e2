"""Lines that follow the rows of `nvidia-smi`: slices of GPUs (MIG), and the memory of the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_GPU = re.compile(r"GPU ([0-9]{1,3}): [^\n]{0,200}\(UUID: GPU-[0-9a-f-]{8,40}\)\s*")
_SLICE = re.compile(
    r"\s*MIG ((?:[0-9]c\.)?[0-9]g\.([0-9]{1,3})gb[+.a-z]{0,10})\s+Device\s+([0-9]{1,2}): "
    r"\(UUID: (MIG-[0-9a-f-]{8,40}|MIG-GPU-[0-9a-f-]{8,40}/[0-9]{1,3}/[0-9]{1,3})\)\s*"
)
"""Lines of `nvidia-smi -L` (NVIDIA's MIG user guide, "Device Enumeration")."""

_USE = re.compile(
    r"\|\s*([0-9]{1,3})(?:\s+[0-9]{1,3}){2}\s+([0-9]{1,2})\s*\|\s*([0-9]{1,7})MiB\s*/\s*([0-9]{1,7})MiB\s*\|.*"
)
"""A line of the table "MIG devices" of `nvidia-smi`: GPU, instances, device, memory in use and in all."""

_SYSTEM = re.compile(r"(MemTotal|MemAvailable):\s+([0-9]{1,12}) kB\s*")
"""Lines of /proc/meminfo."""

USABLE = 0.95
"""Part of a slice's name that is its memory, if the table does not tell: 3g.40gb has 39.5 GiB, 1g.10gb has 9.75."""


@dataclass(frozen=True)
class Slice:
    """One slice of a GPU. `profile` is its size, such as "3g.40gb"."""

    profile: str
    memory_mib: int
    used_mib: int
    uuid: str


@dataclass
class Listing:
    """The slices of each GPU by its index, and the machine's memory (0: not reported)."""

    slices: dict[int, list[Slice]] = field(default_factory=dict)
    total_mib: int = 0
    available_mib: int = 0


def split(lines: Iterable[str]) -> tuple[list[str], Listing]:
    """Return the lines that are not of a listing, and the listing."""
    rows: list[str] = []
    named: list[tuple[int, int, str, int, str]] = []
    uses: dict[tuple[int, int], tuple[int, int]] = {}
    system = {"MemTotal": 0, "MemAvailable": 0}
    gpu = None
    for line in lines:
        if found := _GPU.fullmatch(line):
            gpu = int(found[1])
        elif gpu is not None and (found := _SLICE.fullmatch(line)):
            named.append((gpu, int(found[3]), found[1], int(found[2]), found[4]))
        elif found := _USE.fullmatch(line):
            uses[int(found[1]), int(found[2])] = int(found[3]), int(found[4])
        elif found := _SYSTEM.fullmatch(line):
            system[found[1]] = int(found[2]) // 1024
        else:
            rows.append(line)
    slices: dict[int, list[Slice]] = {}
    for gpu, device, profile, gb, uuid in named:
        used_mib, memory_mib = uses.get((gpu, device), (0, int(gb * 1024 * USABLE)))
        if memory_mib:
            slices.setdefault(gpu, []).append(Slice(profile, memory_mib, used_mib, uuid))
    return rows, Listing(slices, system["MemTotal"], system["MemAvailable"])
