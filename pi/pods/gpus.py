"""GPUs of a pod: the query for `nvidia-smi`, and the parser of its output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pi.on_pod.gpus import SILENT
from pi.pods import mig
from pi.pods.mig import Listing, Slice
from pi.text import one_line

QUERY = "--query-gpu=index,name,memory.total,memory.used,uuid,compute_cap,driver_version,mig.mode.current"
"""The query, always with `--format=csv,noheader,nounits`; memory is in MiB (`--help-query-gpu`)."""

COLUMNS = 7
"""Columns of the query without the last one, which old drivers do not know."""

SLICED = "Enabled"
"""The last column of a GPU that is cut into slices (MIG): CUDA uses only the slices."""

MAX_TEXT = 64 * 1024
"""Maximum characters of output that pi parses; 16 GPUs need about 2,000."""

MAX_SKIPPED = 20
"""Maximum skipped lines that pi reports, of 200 characters each."""

UNIFIED = re.compile(r"\b(GB10|Thor|Orin)\b")
"""GPUs that share the machine's memory: nvidia-smi prints `[N/A]` for it (NVIDIA's DGX Spark known issues)."""

SYSTEM_MIB = 4096
"""Part of unified memory that the system keeps."""

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
    """Other keys of the GPU in pods.json."""

    @property
    def free_mib(self) -> int:
        return max(0, self.memory_mib - self.used_mib)


def is_slice(gpu: Gpu) -> bool:
    """Return whether this is a slice of a GPU (MIG), not a whole one."""
    return " MIG " in gpu.name


def parse(answer: str) -> tuple[list[Gpu], list[str]]:
    """Return the GPUs in the output of `nvidia-smi`, sorted by index, and the skipped lines, safe to print.

    A line needs an index of 1 to 3 digits, a printable name and a memory in MiB. A name may contain commas.
    The columns after memory may be missing or `[N/A]`. A line that reports a broken GPU is skipped, and that of a GPU
    that is cut into slices (MIG) but has none. Lines of
    `nvidia-smi -L`, of its table and of /proc/meminfo describe slices (MIG) and unified memory; they may follow.
    """
    lines = answer[:MAX_TEXT].splitlines()
    if len(answer) >= MAX_TEXT:
        lines[-1] = f"everything after line {len(lines) - 1}: the output is too long"
    rows, more = mig.split(list(filter(str.strip, lines)))
    gpus: dict[int, Gpu] = {}
    skipped: list[str] = []
    for line in rows:
        found = _gpus(line, more)
        if not found or not gpus.keys().isdisjoint(gpu.id for gpu in found):
            skipped.append(line)
        else:
            gpus |= {gpu.id: gpu for gpu in found}
    return _visible([gpus[index] for index in sorted(gpus)]), _shortened(skipped)


def _visible(gpus: list[Gpu]) -> list[Gpu]:
    """Let CUDA find a pod's only slice by the index of its GPU: vLLM may take a slice's UUID for another GPU.

    Before 0.24 a UUID stops vLLM (vllm#41848); 0.33 reads the slice's number in its GPU as the number of a GPU.
    """
    return [replace(gpus[0], uuid="")] if len(gpus) == 1 and is_slice(gpus[0]) else gpus


def _gpus(line: str, more: Listing) -> list[Gpu]:
    """Return the GPU of a line, or its slices; none if the line does not describe a usable GPU."""
    cells = [cell.strip() for cell in line.split(",")]
    is_sliced = cells[-1] == SLICED
    if cells[-1] in (SLICED, "Disabled") or (len(cells) > COLUMNS and cells[-1].startswith("[")):
        cells.pop()
    if len(cells) < 3 or _BROKEN.search(line):
        return []
    extra = max(0, len(cells) - COLUMNS)  # a comma in the name makes further cells
    index, name, (total, *rest) = cells[0], ", ".join(cells[1 : 2 + extra]), cells[2 + extra :]
    used, uuid, capability, driver = (rest + [""] * 4)[:4]
    if not re.fullmatch(r"[0-9]{1,3}", index) or not name.isprintable() or not name:
        return []
    version = re.fullmatch(r"([0-9]{1,2})\.([0-9])", capability)
    gpu = Gpu(
        id=int(index),
        name=re.sub(r"^NVIDIA ", "", name)[:100],
        memory_mib=_mib(total) or 0,
        used_mib=_mib(used) or 0,
        uuid=uuid if re.fullmatch(r"GPU-[0-9a-f-]{8,40}", uuid) else "",
        compute_capability=(int(version[1]), int(version[2])) if version else None,
        driver=driver if re.fullmatch(r"[0-9.]{1,20}", driver) else "",
    )
    if gpu.id in more.slices:
        return [_slice(gpu, place, found) for place, found in enumerate(more.slices[gpu.id])]
    if is_sliced:
        return []
    if not gpu.memory_mib and UNIFIED.search(gpu.name) and more.total_mib:
        used_mib = max(more.total_mib - more.available_mib, SYSTEM_MIB)
        return [replace(gpu, memory_mib=more.total_mib, used_mib=min(used_mib, more.total_mib))]
    return [gpu] if gpu.memory_mib else []


def _slice(gpu: Gpu, place: int, found: Slice) -> Gpu:
    """Return a slice as a GPU; the first has its GPU's index, the others numbers from 100 on."""
    return replace(
        gpu,
        id=100 + 8 * gpu.id + place if place else gpu.id,
        name=f"{gpu.name} MIG {found.profile}",
        memory_mib=found.memory_mib,
        used_mib=found.used_mib,
        uuid=found.uuid,
    )


def is_silent(unread: Sequence[str]) -> bool:
    """Return whether nvidia-smi gave no answer in time, which proves nothing about the GPUs."""
    return bool(unread) and unread[0].startswith(SILENT)


def lost(known: Iterable[Gpu], seen: Iterable[Gpu], unread: Sequence[str]) -> list[str]:
    """Describe known GPUs that are missing, such as "GPU 3 lost (nvidia-smi: No devices were found)".

    `unread` are the lines that `parse` skipped. GPUs with the same reason share one description.
    """
    if is_silent(unread):
        return []
    present = {gpu.id for gpu in seen}
    general = [line for line in unread if not re.match(r"[0-9]{1,3},", line)]
    reasons: dict[str, list[str]] = {}
    for gpu in known:
        if gpu.id not in present:
            own = [line for line in unread if line.startswith(f"{gpu.id},")]
            reasons.setdefault(next(iter(own + general), ""), []).append(str(gpu.id))
    return [
        f"GPU {', '.join(ids)} lost" + (f" (nvidia-smi: {reason})" if reason else "") for reason, ids in reasons.items()
    ]


def _shortened(skipped: list[str]) -> list[str]:
    lines = [one_line(line) for line in skipped[:MAX_SKIPPED]]
    return lines if len(skipped) <= MAX_SKIPPED else [*lines, f"and {len(skipped) - MAX_SKIPPED} more lines"]


def _mib(cell: str) -> int | None:
    match = re.fullmatch(r"([0-9]{1,9})(?: MiB)?", cell)
    return int(match[1]) if match else None


def memory_label(memory_mib: int) -> str:
    """Return a GPU's memory in whole GiB, as vendors name it: 81559 MiB is "80GB"."""
    return f"{round(memory_mib / 1024)}GB"


def memory_mib(label: str) -> int:
    """Return the MiB of a stored label such as "80GB", or 0 if pi cannot parse it."""
    pattern = r"\s*([0-9]{1,7}(?:\.[0-9]{1,3})?)\s*(MiB|MB|GiB|GB|G|M)?\s*"
    match = re.fullmatch(pattern, label, re.IGNORECASE)
    if not match:
        return 0
    return int(float(match[1]) * (1 if (match[2] or "G").upper().startswith("M") else 1024))
