"""Memory of the pod's GPUs, as `nvidia-smi` reports it."""

from __future__ import annotations

import glob
import os
import re
import select
import subprocess
import time
from typing import TYPE_CHECKING, Iterable, NamedTuple, Optional

from pi.on_pod import process, reading
from pi.on_pod.pace import paced

if TYPE_CHECKING:
    from pi.on_pod.record_shapes import Record
    from pi.on_pod.shapes import GpuUse, NvidiaSmi

MAX_ANSWER = 64 * 1024
"""Bytes that are read of an answer of nvidia-smi; 16 GPUs need about 2,000."""

NVIDIA_SMI = (
    "nvidia-smi",
    "/usr/bin/nvidia-smi",
    "/usr/local/nvidia/bin/nvidia-smi",
    "/usr/lib/wsl/lib/nvidia-smi",
)
"""Where it may be, as in pod_setup.sh. Some shells lack the folders of containers and WSL in their PATH."""

KFD = "/dev/kfd"
"""The device of AMD's compute driver."""

VRAM = "/sys/class/drm/card*/device/mem_info_vram_total"
"""Files with the memory of each AMD GPU, in bytes."""

AMD = "AMD GPUs (%s) without nvidia-smi" % KFD
"""The error of a pod with AMD GPUs. pi's setup and the planner reject such a pod."""

NVIDIA = ("/dev/nvidia[0-9]*", "/proc/driver/nvidia/gpus/*", "/dev/dxg")
"""Files that only a machine or container with an NVIDIA GPU has; the last one is WSL's."""

NOT_FOUND = "nvidia-smi not found"
"""The error of a pod without GPUs."""

HIDDEN = "NVIDIA devices without nvidia-smi: "
"""The beginning of the error of a pod whose GPUs are there, but without nvidia-smi."""

SILENT = "nvidia-smi did not answer"
"""The beginning of the error if it is too slow. That proves nothing about the GPUs."""

INTEGRATED_MIB = 8192
"""An AMD GPU with less memory of its own belongs to a processor; such a machine is a pod without a GPU."""

SLICED = re.compile(
    r"^\s*\d+, [^,\n]*\b(A30|A100|A800|[HB]\d{3}|H20|GB\d{3}|RTX PRO [56]000)|, \[N/A\],|\[Insuff|, Enabled\s*$", re.M
)
"""Rows of GPUs that may be cut into slices (MIG), or whose memory nvidia-smi does not tell."""

LISTING = re.compile(r"GPU \d+: |\s+MIG \d|\|\s*\d+(\s+\d+){3}\s*\|[^|]*MiB\s*/")
"""Lines of `nvidia-smi -L` and of its table that describe slices."""

PATIENCE_S = 60
"""Time-out of every question. With 8 GPUs and without persistence mode, an answer may take 25 s and more."""

FORMAT = "--format=csv,noheader,nounits"

CARDS = "--query-gpu=index,uuid,memory.used,memory.total"

PROCESSES = "--query-compute-apps=pid,gpu_uuid,used_memory"
"""Columns as `nvidia-smi --help-query-gpu` and `--help-query-compute-apps` list them; memory in MiB."""


def described(query: str) -> NvidiaSmi:
    """Return the answer to a query, followed by what pi needs to know of slices (MIG) and unified memory.

    An old driver does not know all columns; then the query ends before the first unknown one.
    """
    answer = nvidia_smi(query)
    unknown = re.search(r'Field "([a-z_.]+)" is not a valid field', answer["text"])
    while unknown and "," + unknown.group(1) in query:
        query = query.partition("," + unknown.group(1))[0]
        answer = nvidia_smi(query)
        unknown = re.search(r'Field "([a-z_.]+)" is not a valid field', answer["text"])
    if not SLICED.search(answer["text"]):
        return answer
    listed = _ask(["-L"])["text"]
    if re.search(r"^\s+MIG \d", listed, re.M):
        listed += "\n" + _ask([])["text"]
    lines = [line for line in listed.splitlines() if LISTING.match(line)]
    with open("/proc/meminfo") as file:
        lines += [line.strip() for line in file if line.startswith(("MemTotal:", "MemAvailable:"))]
    return {"text": "\n".join([answer["text"].rstrip("\n"), *lines, ""]), "error": answer["error"]}


def cuda_version() -> Optional[str]:
    """Return the newest CUDA that the driver supports, such as "12.8"; since driver 610: "CUDA UMD Version"."""
    found = re.search(r"CUDA(?:\s+\w+)?\s+Version:\s*(\d{1,2}\.\d{1,2})", _ask([])["text"])
    return found.group(1) if found else None


def nvidia_smi(query: str) -> NvidiaSmi:
    """Return the answer of `nvidia-smi` to a query, or why there is none."""
    return _ask([query, FORMAT])


def _absence() -> str:
    """Return what a pod without nvidia-smi has: hidden GPUs of NVIDIA, those of AMD, or none."""
    devices = sorted(path for pattern in NVIDIA for path in glob.glob(pattern))
    if devices:
        return HIDDEN + devices[0]
    return AMD if _has_amd() else NOT_FOUND


def _has_amd() -> bool:
    """Return whether AMD's driver serves a GPU that is not part of a processor."""
    sizes = []
    for path in glob.glob(VRAM):
        try:
            sizes.append(int(reading.text(path)) // 1024**2)
        except ValueError:
            continue
    return os.path.exists(KFD) and (not sizes or max(sizes) >= INTEGRATED_MIB)


def found_program() -> Optional[str]:
    """Return the path of nvidia-smi, or None. `shutil` would take 2 ms of the CPU to import, at each call."""
    places = [os.path.join(folder, name) for name in NVIDIA_SMI for folder in os.get_exec_path()]
    return next((path for path in places if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def _ask(words: list[str]) -> NvidiaSmi:
    """Return the answer of `nvidia-smi`, or why there is none.

    A wedged driver keeps `nvidia-smi` in the kernel even after KILL, so its end is not waited for.
    """
    program = found_program()
    if program is None:
        return {"text": "", "error": _absence()}
    try:
        child = subprocess.Popen(
            [program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return {"text": "", "error": str(error)}
    assert child.stdout is not None
    _asked.add(child.pid)
    deadline = time.monotonic() + paced(PATIENCE_S)
    try:
        with child.stdout:
            answer = _read(child.stdout.fileno(), deadline)
        if len(answer) >= MAX_ANSWER:
            process.kill_group(child.pid)  # too much output to be an answer
        code = child.wait(max(0.1, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        process.kill_group(child.pid)
        return {"text": "", "error": "%s within %d s" % (SILENT, PATIENCE_S)}
    finally:
        _asked.discard(child.pid)
    text = answer.decode("utf-8", "replace")
    return {"text": text, "error": text.strip() if code else None}


_asked: set[int] = set()
"""Pids of nvidia-smi whose answers are awaited."""


def give_up() -> None:
    """Kill what still waits for the driver."""
    for pid in list(_asked):
        process.kill_group(pid)


def _read(pipe: int, deadline: float) -> bytes:
    """Read at most MAX_ANSWER bytes from a pipe. Raises TimeoutError if the pipe is still open at the deadline."""
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
    total: int


def cards(ids: Iterable[int], answer: Optional[NvidiaSmi] = None) -> dict[int, Card]:
    """Return these GPUs by index, without those that nvidia-smi does not report."""
    wanted = set(ids)
    text = (answer or nvidia_smi(CARDS))["text"]
    rows = re.findall(r"^\s*(\d{1,3}), ([^,\n]*), (\d{1,9}), (\d{1,9})\s*$", text, re.M)
    return {int(row[0]): Card(row[1], int(row[2]), int(row[3])) for row in rows if int(row[0]) in wanted}


def processes() -> list[GpuUse]:
    """Return the processes that compute on the GPUs, as far as this pod can see.

    Leaves out pids that do not exist here: a container may see the pids of its host.
    """
    rows = re.findall(r"^\s*(\d{1,9}), (GPU-[0-9a-f-]{8,40}), (\d{1,9})\s*$", nvidia_smi(PROCESSES)["text"], re.M)
    uses: list[GpuUse] = [{"pid": int(pid), "uuid": uuid, "mib": int(mib)} for pid, uuid, mib in rows]
    return [use for use in uses if os.path.exists("/proc/%d" % use["pid"])]


def held_mib(pids: Iterable[int]) -> dict[int, int]:
    """Return the GPU memory in MiB of each of these processes that holds some."""
    wanted = set(pids)
    held: dict[int, int] = {}
    for use in processes():
        if use["pid"] in wanted:
            held[use["pid"]] = held.get(use["pid"], 0) + use["mib"]
    return held


def used_by(pids: Iterable[int]) -> list[int]:
    """Return the GPUs on which these processes hold memory."""
    wanted = set(pids)
    uuids = {use["uuid"] for use in processes() if use["pid"] in wanted} if wanted else set()
    return sorted(gpu for gpu, card in cards(range(1000)).items() if card.uuid in uuids) if uuids else []


class MemoryCheck:
    """Checks that the GPU memory of a deployment is free again, by a look before and after its end."""

    def __init__(self, record: Record, pids: list[int], shared: set[int]) -> None:
        """`pids` are its processes, `shared` the GPUs that other deployments use too."""
        self._ids = record["gpus"] if pids else []
        self._before = cards(self._ids) if self._ids else {}
        self.is_possible = bool(self._before or not self._ids)
        self._fall = self._expected(record.get("memory_share"), pids, shared) if self._before else {}

    def _expected(self, share: Optional[float], pids: list[int], shared: set[int]) -> dict[int, int]:
        """Return by how many MiB each GPU's use must fall: half of the deployment's memory there.

        That memory is what nvidia-smi reports for its processes. If it reports none of them, it is the server's
        share, if so much is in use and no other deployment shares the GPU.
        """
        reported = sum(held_mib(pids).values()) // len(self._ids)
        fall = {}
        for gpu, card in self._before.items():
            had = reported or int((share or 0.5) * card.total)
            if card.used >= had > 0 and (reported or gpu not in shared):
                fall[gpu] = had // 2
        return fall

    def missing(self) -> Optional[str]:
        """Describe GPU memory that no live process owns, or return None if all was freed."""
        if not self._fall:
            return None
        answer = nvidia_smi(CARDS)
        if (answer["error"] or "").startswith(SILENT):
            return "pi cannot tell whether its GPU memory is free: %s" % answer["error"]
        now = cards(self._ids, answer)
        silent = sorted(set(self._fall) - set(now))
        if silent:
            return "nvidia-smi no longer reports GPU %s" % ", ".join(map(str, silent))
        uses = processes()
        problems = []
        for gpu, fall in sorted(self._fall.items()):
            card = now[gpu]
            owned = sum(use["mib"] for use in uses if use["uuid"] == card.uuid)
            if card.used > self._before[gpu].used - fall and card.used - owned > fall:
                problems.append("GPU %d still has %.1f of %.1f GB in use" % (gpu, card.used / 1024, card.total / 1024))
        return "; ".join(problems) or None
