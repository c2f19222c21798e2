"""GPUs of a pod: the question to `nvidia-smi` and the reading of its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pi.text import one_line

QUERY = "--query-gpu=index,name,memory.total,memory.used,uuid,compute_cap,driver_version"
"""What is asked, always with `--format=csv,noheader,nounits`; memory is in MiB (`--help-query-gpu`)."""

MAX_TEXT = 64 * 1024
"""Characters of an answer that are read; 16 GPUs need about 2,000."""

MAX_SKIPPED = 20
"""Skipped lines that are told, of 200 characters each."""

_BROKEN = re.compile(r"ERR!|\[(?:Unknown Error|GPU is lost|GPU requires reset)\]")


@dataclass(frozen=True)
class Gpu:
    """One GPU: `id` is nvidia-smi's index, `name` the vendor's words without "NVIDIA"."""

    id: int
    name: str
    memory_mib: int
    used_mib: int = 0
    uuid: str = ""
    compute_capability: tuple[int, int] | None = None
    driver: str = ""
    extra: dict[str, Any] = field(default_factory=dict, compare=False)
    """What pods.json says of it besides."""

    @property
    def free_mib(self) -> int:
        return max(0, self.memory_mib - self.used_mib)


def parse(answer: str) -> tuple[list[Gpu], list[str]]:
    """GPUs that `nvidia-smi` described, by index, and the lines that could not be read, safe to print.

    A line is skipped, never guessed: an index of 1 to 3 digits, a printable name and a memory in MiB are
    required, and no cell may tell of a broken GPU; the columns after memory may be missing or `[N/A]`. Names
    may hold commas.
    """
    gpus: dict[int, Gpu] = {}
    skipped: list[str] = []
    lines = answer[:MAX_TEXT].splitlines()
    if len(answer) >= MAX_TEXT:
        lines[-1] = f"all after the first {len(lines) - 1} lines: the answer is too long"
    for line in filter(str.strip, lines):
        gpu = _gpu(line)
        if gpu is None or gpu.id in gpus:
            skipped.append(line)
        else:
            gpus[gpu.id] = gpu
    return [gpus[index] for index in sorted(gpus)], _told(skipped)


def _gpu(line: str) -> Gpu | None:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) < 3 or _BROKEN.search(line):
        return None
    extra = max(0, len(cells) - 7)  # a comma in the name makes further cells
    index, name, (total, *rest) = cells[0], ", ".join(cells[1 : 2 + extra]), cells[2 + extra :]
    used, uuid, capability, driver = (rest + [""] * 4)[:4]
    memory_mib = _mib(total)
    if not re.fullmatch(r"[0-9]{1,3}", index) or not memory_mib or not name.isprintable() or not name:
        return None
    version = re.fullmatch(r"([0-9]{1,2})\.([0-9])", capability)
    return Gpu(
        id=int(index),
        name=re.sub(r"^NVIDIA ", "", name)[:100],
        memory_mib=memory_mib,
        used_mib=_mib(used) or 0,
        uuid=uuid if re.fullmatch(r"GPU-[0-9a-f-]{8,40}", uuid) else "",
        compute_capability=(int(version[1]), int(version[2])) if version else None,
        driver=driver if re.fullmatch(r"[0-9.]{1,20}", driver) else "",
    )


def lost(known: Iterable[Gpu], seen: Iterable[Gpu], unread: Sequence[str]) -> list[str]:
    """Such as "GPU 3 lost (nvidia-smi: No devices were found)", for GPUs that were known and are not seen any more.

    `unread` are the lines that could not be read. GPUs of which nvidia-smi says the same are told together.
    """
    there = {gpu.id for gpu in seen}
    general = [line for line in unread if not re.match(r"[0-9]{1,3},", line)]
    reasons: dict[str, list[str]] = {}
    for gpu in known:
        if gpu.id not in there:
            own = [line for line in unread if line.startswith(f"{gpu.id},")]
            reasons.setdefault(next(iter(own + general), ""), []).append(str(gpu.id))
    return [
        f"GPU {', '.join(ids)} lost" + (f" (nvidia-smi: {reason})" if reason else "") for reason, ids in reasons.items()
    ]


def _told(skipped: list[str]) -> list[str]:
    told = [one_line(line) for line in skipped[:MAX_SKIPPED]]
    return told if len(skipped) <= MAX_SKIPPED else [*told, f"and {len(skipped) - MAX_SKIPPED} more lines"]


def _mib(cell: str) -> int | None:
    found = re.fullmatch(r"([0-9]{1,9})(?: MiB)?", cell)
    return int(found[1]) if found else None


def memory_label(memory_mib: int) -> str:
    """A card's memory in whole GiB, as most are sold: 81559 MiB is "80GB"."""
    return f"{round(memory_mib / 1024)}GB"


def memory_mib(label: str) -> int:
    """MiB of a stored label such as "80GB"; 0 when it says nothing."""
    pattern = r"\s*([0-9]{1,7}(?:\.[0-9]{1,3})?)\s*(MiB|MB|GiB|GB|G|M)?\s*"
    found = re.fullmatch(pattern, label, re.IGNORECASE)
    if not found:
        return 0
    return int(float(found[1]) * (1 if (found[2] or "G").upper().startswith("M") else 1024))
