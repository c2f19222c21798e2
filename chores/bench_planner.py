"""The time to load the catalog and to plan all of it, in a fresh process each time."""

from __future__ import annotations

import statistics
import subprocess
import sys

MEASURE = """
import time
from pathlib import Path
from pi.planning import catalog, offers, types
from pi.pods import gpus
began = time.perf_counter()
known = catalog.load()
loaded = time.perf_counter()
card = "{}, NVIDIA H100 80GB HBM3, 81559, 0, , 9.0, 580.65"
facts = types.PodFacts(tuple(gpus.parse("\\n".join(card.format(n) for n in range(8)))[0]), vllm_version="0.32.0")
asked = time.perf_counter()
found = offers.offers(known, facts)
print(loaded - began, time.perf_counter() - asked, len(found))
"""


def report() -> None:
    """Print the median and the best of 11 processes."""
    rows = []
    for _ in range(11):
        done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
        rows.append([float(word) for word in done.stdout.split()])
    plan = _figures([plan for _, plan, _ in rows])
    whole = _figures([load + plan for load, plan, _ in rows])
    print(f"catalog: {rows[0][2]:.0f} models planned for 8 x H100 in {plan} (target: 60),", end=" ")
    print(f"with loading {whole} (target: 120)\n")


def _figures(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} ms, at best {min(seconds) * 1000:.0f}"
