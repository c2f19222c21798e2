"""A stand-in for `nvidia-smi` that prints recorded outputs of real GPUs (tests/cases/gpus).

`~/fault/nvidia_smi.json` contains `answer` (a file of that folder). It may contain `count` (number of GPUs),
`used_mib` (used memory by GPU, `{"0": 70000}`), `mig` (the mode of slices, by default "[N/A]"), `cuda` (the newest CUDA that the driver supports), `exit` (exit
code), `seconds` (the duration), `columns` (other columns, such as `{"utilization.gpu": "40"}`) and `apps` (processes: `[{"pid": 77, "gpu": 0, "mib": 62464}]`; the stand-in
lists the live ones and adds their memory), and `serving_mib` (memory of each live stand-in for `vllm` on each of its
GPUs). Lines of the file that list slices (MIG) are printed by `-L` and in the
table.
It uses only the standard library, because tests copy it into a pod's PATH.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

ANSWERS = Path("@ANSWERS@")
"""The rig replaces this when it copies the file."""

COLUMNS = ["index", "name", "memory.total", "memory.used", "uuid", "compute_cap", "driver_version"]
"""Columns of the recorded outputs (`pi.pods.gpus.QUERY`)."""

LISTING = ("GPU ", "  MIG ", "|", "Mem")
"""Beginnings of the lines that are not printed as rows."""

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
        while "-l" in sys.argv:
            sys.stdout.flush()
            time.sleep(float(sys.argv[sys.argv.index("-l") + 1]))
            print_cards(option.partition("=")[2].split(","), fault)
    elif option.startswith("--query-compute-apps="):
        print_apps(fault)
    elif sys.argv[1:] == ["-L"]:
        print_lines(fault, ("GPU ", "  MIG "))
    elif not option:
        print(HEADER.format(cuda=fault.get("cuda", "13.0")), end="")
        print_lines(fault, ("|",))
    sys.exit(fault.get("exit", 0))


def print_lines(fault: dict[str, Any], beginnings: tuple[str, ...]) -> None:
    lines = (ANSWERS / fault["answer"]).read_text().splitlines()
    print(*(line for line in lines if line.startswith(beginnings)), sep="\n")


def print_cards(wanted: list[str], fault: dict[str, Any]) -> None:
    for card in cards(fault):
        if isinstance(card, str):
            print(card)
            continue
        used = str(fault.get("used_mib", {}).get(card["index"], card["memory.used"]))
        if used.isdecimal():
            used = str(int(used) + sum(app["mib"] for app in apps(fault) if str(app["gpu"]) == card["index"]))
        card["memory.used"] = used
        print(
            ", ".join(
                card.get(column, fault.get("columns", {}).get(column, fault.get("mig", "[N/A]"))) for column in wanted
            )
        )


def print_apps(fault: dict[str, Any]) -> None:
    """Print the answer to `--query-compute-apps=pid,gpu_uuid,used_memory`."""
    uuids = {card["index"]: card["uuid"] for card in cards(fault) if not isinstance(card, str)}
    for app in apps(fault):
        print(app["pid"], uuids[str(app["gpu"])], app["mib"], sep=", ")


def apps(fault: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the live processes."""
    found = []
    for app in [*fault.get("apps", []), *servers(fault.get("serving_mib"))]:
        stat = Path(f"/proc/{app['pid']}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            found.append(app)
    return found


def servers(mib: int | None) -> list[dict[str, Any]]:
    """Return the stand-ins for `vllm` that were started, on each of their GPUs."""
    received = [json.loads(path.read_text()) for path in Path.home().glob("received/*.json")] if mib else []
    gpus = [(each["pid"], each["env"].get("CUDA_VISIBLE_DEVICES", "").split(",")) for each in received if "pid" in each]
    return [{"pid": pid, "gpu": int(gpu), "mib": mib} for pid, own in gpus for gpu in own if gpu.isdecimal()]


def cards(fault: dict[str, Any]) -> list[dict[str, str] | str]:
    """Return the GPUs of the output by column. A line that is not a GPU stays text."""
    found: list[dict[str, str] | str] = []
    rows = [line for line in (ANSWERS / fault["answer"]).read_text().splitlines() if not line.startswith(LISTING)]
    for line in rows[: fault.get("count")]:
        cells = line.split(", ")
        is_card = len(cells) == len(COLUMNS)
        found.append(dict(zip(COLUMNS, cells, strict=True)) if is_card else line)
    return found


if __name__ == "__main__":
    main()
