"""How a server ended: its exit code, and what the kernel says of memory and GPUs since its launch.

The kernel's log (proc(5), /dev/kmsg) has the time since boot, as records have. In a container it may be out of reach;
then the container's own counter of killed processes (cgroup memory.events, `oom_kill`) proves a lack of memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from typing import Any, Dict, Iterator, List, Optional

from pi.on_pod import logs, reading, records, writing
from pi.on_pod.events import ServerDetail
from pi.on_pod.record_shapes import Record

KMSG = "/dev/kmsg"

COUNTERS = (
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
)
"""Of cgroup 2 and 1, as a container sees its own."""

DMESG_S = 3

MOST_LINES = 4

LONGEST = 300

RELEVANT = re.compile(
    r"(?:[Oo]ut of memory|oom-kill).*(?:VLLM|vllm|python|pt_main_thread|ray|cicc|cc1plus|nvcc|ptxas)|NVRM: Xid"
)
"""Lines about processes of vLLM and its compilers, and about broken GPUs (Xid)."""

LOG_BYTES = 256 * 1024

HEAD_BYTES = 64 * 1024
"""Of a longer log, for the arguments that vLLM writes there."""


def kills() -> Optional[int]:
    """Return how many processes of this container the kernel has killed for memory, or None if unknown."""
    for path in COUNTERS:
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            for line in file:
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    return None


def kernel(record: Record) -> List[str]:
    """Return what the kernel says of memory and broken GPUs since a server's launch; empty if it says nothing."""
    since = record.get("launched", record.get("created", 0.0))
    lines = [text[:LONGEST] for when, text in _kernel_log() if when >= since and RELEVANT.search(text)]
    before, now = record.get("kills"), kills()
    if before is not None and now is not None and now > before and not any("emory" in line for line in lines):
        lines.append("oom_kill %d: the kernel killed a process of this container for memory" % (now - before))
    return lines[-MOST_LINES:]


def _kernel_log() -> Iterator[tuple[float, str]]:
    """Yield the seconds since boot and the text of the kernel's messages, as far as this user may read them."""
    found = False
    with contextlib.suppress(OSError):
        descriptor = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK)
        try:
            while True:
                try:
                    head, _, text = os.read(descriptor, 8192).decode("utf-8", "replace").partition(";")
                except BrokenPipeError:  # overwritten while it was read
                    continue
                fields = head.split(",")
                if len(fields) > 2 and fields[2].isdigit():
                    found = True
                    yield int(fields[2]) / 1e6, text.partition("\n")[0]
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
    if not found:
        yield from _dmesg()


def _dmesg() -> Iterator[tuple[float, str]]:
    try:
        done = subprocess.run(["dmesg"], stdin=subprocess.DEVNULL, capture_output=True, timeout=DMESG_S)
    except (OSError, subprocess.TimeoutExpired):
        return
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        match = re.match(r"\[ *(\d+\.\d+)\] (.*)", line)
        if match:
            yield float(match[1]), match[2]


def of(record: Record) -> ServerDetail:
    """Return how a deployment's server ended, with its log."""
    name = record["name"]
    return _ending(name, records.exit_code(name), record.get("venv", "venv"), kernel(record))


def _ending(name: str, exit_code: Optional[int], venv: str, said_by_kernel: List[str]) -> ServerDetail:
    path = records.log_path(name)
    log, lines_before = logs.numbered_tail(path, LOG_BYTES)
    ending: ServerDetail = {
        "name": name,
        "log": log,
        "lines_before": lines_before,
        "exit": exit_code,
        "venv": venv,
        "kernel": said_by_kernel,
    }
    if lines_before != 0:
        ending["head"] = reading.beginning(path, HEAD_BYTES).rpartition("\n")[0]  # half a secret cannot be hidden
    return ending


def keep(ending: ServerDetail) -> None:
    """Keep an ending beside its log, for `pi explain`; the record of a failed start does not stay."""
    facts = {key: ending.get(key) for key in ("exit", "venv", "kernel")}
    with contextlib.suppress(OSError):
        writing.replace(_path(ending["name"]), json.dumps(facts))


def forget(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(_path(name))


def kept(name: str) -> ServerDetail:
    """Return the ending of a failed start, or only the end of a log."""
    facts = _kept_facts(_path(name))
    return _ending(name, facts.get("exit"), facts.get("venv", "venv"), facts.get("kernel", []))


def _kept_facts(path: str) -> Dict[str, Any]:
    try:
        facts = reading.document(path)
    except reading.ReadError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _path(name: str) -> str:
    return os.path.join(records.LOGS, name + ".end")
