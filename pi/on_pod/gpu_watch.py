"""Memory, use, heat and power of each GPU, from one nvidia-smi that repeats its answer."""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import threading
from typing import Dict, List, Optional

from pi.on_pod import gpus, process
from pi.on_pod.top_shapes import GpuSample

QUERY = "--query-gpu=index,memory.used,memory.total,utilization.gpu,temperature.gpu,power.draw"


class GpuWatch:
    """Keeps the latest answer for each GPU. Without nvidia-smi there are none."""

    def __init__(self, interval_s: float) -> None:
        self._found: Dict[int, GpuSample] = {}
        self._first = threading.Event()
        self._child: Optional[subprocess.Popen[str]] = None
        program = gpus.found_program()
        if program is None:
            self._first.set()
            return
        line_by_line = ["stdbuf", "-oL"] if shutil.which("stdbuf") else []  # into a pipe, C programs write in blocks
        with contextlib.suppress(OSError):
            self._child = subprocess.Popen(
                [*line_by_line, program, QUERY, gpus.FORMAT, "-l", str(max(1, round(interval_s)))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                universal_newlines=True,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self, patience_s: float) -> None:
        """Wait for the first answer."""
        self._first.wait(patience_s)

    def now(self) -> List[GpuSample]:
        return [self._found[index] for index in sorted(self._found)]

    def end(self) -> None:
        if self._child:
            process.kill_group(self._child.pid)

    def _read(self) -> None:
        if self._child and self._child.stdout:
            for line in self._child.stdout:
                card = parsed(line)
                if card:
                    self._found[card["index"]] = card
                    self._first.set()
        self._first.set()


def parsed(line: str) -> Optional[GpuSample]:
    """Return the GPU of a line, or None for any other line."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != 6 or not (cells[0].isascii() and cells[0].isdecimal()):
        return None
    used, memory, use, celsius, watts = map(_number, cells[1:])
    return {
        "index": int(cells[0]),
        "used_mib": used,
        "memory_mib": memory,
        "use": use,
        "celsius": celsius,
        "watts": watts,
    }


def _number(cell: str) -> Optional[float]:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
