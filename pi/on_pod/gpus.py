"""Memory of the pod's GPUs: raw answers of `nvidia-smi` for pi, and what a stop and a list must read here."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from typing import Any, Iterable, NamedTuple, Optional

from pi.on_pod import process
from pi.on_pod.pace import paced

MAX_ANSWER = 64 * 1024
"""Bytes of an answer of nvidia-smi that are read; 16 GPUs need about 2,000."""

NVIDIA_SMI = (
    "nvidia-smi",
    "/usr/bin/nvidia-smi",
    "/usr/local/nvidia/bin/nvidia-smi",
    "/usr/lib/wsl/lib/nvidia-smi",
)
"""Where it may be; pod_setup.sh looks there too. Not every shell has a container's or WSL's folder in its PATH."""

TIMEOUT_S = 20

BRIEF_S = 10
"""Where the work goes on without an answer."""

CARDS = "--query-gpu=index,uuid,memory.used,memory.total"

PROCESSES = "--query-compute-apps=pid,gpu_uuid,used_memory"
"""Columns as `nvidia-smi --help-query-gpu` and `--help-query-compute-apps` list them; memory in MiB."""


def nvidia_smi(query: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The answer of `nvidia-smi`, or why there is none: `{"text": ..., "error": ...}`.

    A wedged driver keeps `nvidia-smi` in the kernel even after KILL, so its end is not waited for.
    """
    program = next(filter(None, map(shutil.which, NVIDIA_SMI)), None)
    if program is None:
        return {"text": "", "error": "nvidia-smi not found"}
    try:
        asked = subprocess.Popen(
            [program, query, "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return {"text": "", "error": str(error)}
    assert asked.stdout is not None
    deadline = time.monotonic() + paced(timeout_s)
    try:
        with asked.stdout:
            answer = _read(asked.stdout.fileno(), deadline)
        if len(answer) >= MAX_ANSWER:
            process.kill_group(asked.pid)  # it has more to say than anyone wants to know
        code = asked.wait(max(0.1, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        process.kill_group(asked.pid)
        return {"text": "", "error": "nvidia-smi did not answer within %g s" % timeout_s}
    text = answer.decode("utf-8", "replace")
    return {"text": text, "error": text.strip() if code else None}


def _read(pipe: int, deadline: float) -> bytes:
    """What comes out of a pipe, MAX_ANSWER bytes at most. Raises TimeoutError where its end is not there in time."""
    answer = b""
    while len(answer) < MAX_ANSWER:
        if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        chunk = os.read(pipe, MAX_ANSWER - len(answer))
        if not chunk:
            break
        answer += chunk
    return answer


class Card(NamedTuple):
    """A GPU's memory in MiB."""

    uuid: str
    used: int
    whole: int


def cards(ids: Iterable[int]) -> dict[int, Card]:
    """These GPUs by index; those that nvidia-smi does not tell of are left out."""
    wanted = set(ids)
    rows = re.findall(r"^\s*(\d{1,3}), ([^,\n]*), (\d{1,9}), (\d{1,9})\s*$", nvidia_smi(CARDS, BRIEF_S)["text"], re.M)
    return {int(row[0]): Card(row[1], int(row[2]), int(row[3])) for row in rows if int(row[0]) in wanted}


def processes() -> list[dict[str, Any]]:
    """`pid`, `uuid` and `mib` of what computes on the GPUs, as far as this pod can see.

    A container may be shown the pids of its host, or none at all: what is no process here is left out.
    """
    rows = re.findall(
        r"^\s*(\d{1,9}), (GPU-[0-9a-f-]{8,40}), (\d{1,9})\s*$", nvidia_smi(PROCESSES, BRIEF_S)["text"], re.M
    )
    found = [{"pid": int(pid), "uuid": uuid, "mib": int(mib)} for pid, uuid, mib in rows]
    return [one for one in found if os.path.exists("/proc/%d" % one["pid"])]


def held_mib(pids: Iterable[int]) -> dict[int, int]:
    """How much GPU memory each of these processes holds, those that hold none left out."""
    wanted = set(pids)
    held: dict[int, int] = {}
    for one in processes():
        if one["pid"] in wanted:
            held[one["pid"]] = held.get(one["pid"], 0) + one["mib"]
    return held


class Proof:
    """That the memory which a deployment held on its GPUs comes back: looked at before and after its end."""

    def __init__(self, record: dict[str, Any], pids: list[int], shared: set[int]) -> None:
        """`pids` are its processes, `shared` the GPUs that other deployments use too."""
        self._ids = record["gpus"] if pids else []
        self._before = cards(self._ids) if self._ids else {}
        self.is_possible = bool(self._before or not self._ids)
        self._fall = self._expected(record.get("memory_share"), pids, shared) if self._before else {}

    def _expected(self, share: Optional[float], pids: list[int], shared: set[int]) -> dict[int, int]:
        """By how many MiB each GPU's use must fall: half of what the deployment surely had there.

        That is what nvidia-smi says of its processes or, where it names none of them, the share that the
        server was given, once so much is in use at all and nobody else of ours can be who uses it.
        """
        told = sum(held_mib(pids).values()) // len(self._ids)
        fall = {}
        for gpu, card in self._before.items():
            had = told or int((share or 0.5) * card.whole)
            if card.used >= had > 0 and (told or gpu not in shared):
                fall[gpu] = had // 2
        return fall

    def missing(self) -> Optional[str]:
        """What is still in use by nobody who lives, in words, or None where all is back (or was never there)."""
        if not self._fall:
            return None
        now = cards(self._ids)
        silent = sorted(set(self._fall) - set(now))
        if silent:
            return "nvidia-smi no longer tells of GPU %s" % ", ".join(map(str, silent))
        others = processes()
        words = []
        for gpu, fall in sorted(self._fall.items()):
            card = now[gpu]
            theirs = sum(one["mib"] for one in others if one["uuid"] == card.uuid)
            if card.used > self._before[gpu].used - fall and card.used - theirs > fall:
                words.append("GPU %d still has %.1f of %.1f GiB in use" % (gpu, card.used / 1024, card.whole / 1024))
        return "; ".join(words) or None
