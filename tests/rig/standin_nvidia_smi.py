"""A stand-in for `nvidia-smi` that says what real cards said (tests/fixtures/nvidia_smi).

`~/fault/nvidia_smi.json` holds `answer` (a file of that folder), and may hold `count` (how many of its cards),
`used_mib` (memory in use by card, `{"0": 70000}`), `cuda` (the newest CUDA that the driver runs), `exit` (exit
code) and `seconds` (how long it takes).
Standard library only: it is copied into a pod's PATH as it is.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

FIXTURES = Path("@FIXTURES@")
"""Filled in when it is copied."""

COLUMNS = ["index", "name", "memory.total", "memory.used", "uuid", "compute_cap", "driver_version"]
"""Columns of the captured answers (`pi.gpus.QUERY`)."""

HEADER = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 580.159.03             Driver Version: 580.159.03     CUDA Version: {cuda}     |
+-----------------------------------------------------------------------------------------+
"""


def main() -> None:
    fault: dict[str, Any] = json.loads((Path.home() / "fault" / "nvidia_smi.json").read_text())
    time.sleep(fault.get("seconds", 0))
    option = next((word for word in sys.argv[1:] if word.startswith("--query-")), "")
    if option.startswith("--query-gpu="):
        print_cards(option.partition("=")[2].split(","), fault)
    elif not option:  # `--query-compute-apps` has nothing to tell
        print(HEADER.format(cuda=fault.get("cuda", "13.0")), end="")
    sys.exit(fault.get("exit", 0))


def print_cards(wanted: list[str], fault: dict[str, Any]) -> None:
    lines = (FIXTURES / fault["answer"]).read_text().splitlines()
    for line in lines[: fault.get("count")]:
        cells = line.split(", ")
        if len(cells) != len(COLUMNS):
            print(line)
            continue
        card = dict(zip(COLUMNS, cells, strict=True))
        card["memory.used"] = str(fault.get("used_mib", {}).get(card["index"], card["memory.used"]))
        print(", ".join(card[column] for column in wanted))


if __name__ == "__main__":
    main()
