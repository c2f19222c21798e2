"""GPUs of a pod: the query for `nvidia-smi`, and the parser of its output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pi.text import one_line

QUERY = "--query-gpu=index,name,memory.total,memory.used,uuid,compute_cap,driver_version"
"""The query, always with `--format=csv,noheader,nounits`; memory is in MiB (`--help-query-gpu`)."""

MAX_TEXT = 64 * 1024
"""Maximum characters of output that pi parses; 16 GPUs need about 2,000."""

MAX_SKIPPED = 20
"""Maximum skipped lines that pi reports, of 200 characters each."""

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


def parse(answer: str) -> tuple[list[Gpu], list[str]]:
    """Return the GPUs in the output of `nvidia-smi`, sorted by index, and the skipped lines, safe to print.

    A line needs an index of 1 to 3 digits, a printable name and a memory in MiB. A name may contain commas.
    The columns after memory may be missing or `[N/A]`. A line that reports a broken GPU is skipped.
    """
    gpus: dict[int, Gpu] = {}
    skipped: list[str] = []
    lines = answer[:MAX_TEXT].splitlines()
    if len(answer) >= MAX_TEXT:
        lines[-1] = f"everything after line {len(lines) - 1}: the output is too long"
    for line in filter(str.strip, lines):
        gpu = _gpu(line)
        if gpu is None or gpu.id in gpus:
            skipped.append(line)
        else:
            gpus[gpu.id] = gpu
    return [gpus[index] for index in sorted(gpus)], _shortened(skipped)


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
    """Describe known GPUs that are missing, such as "GPU 3 lost (nvidia-smi: No devices were found)".

    `unread` are the lines that `parse` skipped. GPUs with the same reason share one description.
    """
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
