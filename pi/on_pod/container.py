"""Variables of the pod's container that SSH sessions lack: those of its first process."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Optional

from pi.on_pod import reading
from pi.on_pod.shapes import Provider

PROC = "/proc"

FILES = ("/etc/environment", "/etc/rp_environment")
"""Files in which images keep variables for later sessions; RunPod's templates write the second."""

PORTS = re.compile(r"RUNPOD_POD_ID|RUNPOD_PUBLIC_IP|PUBLIC_IPADDR|(RUNPOD|VAST)_TCP_PORT_\d+")
"""Variables in which a provider maps this pod's ports.

RunPod: RUNPOD_POD_ID, RUNPOD_PUBLIC_IP, RUNPOD_TCP_PORT_<port>; Vast.ai: PUBLIC_IPADDR, VAST_TCP_PORT_<port> (the
providers' documentation of their environment variables).
"""

POD_IDS = {"runpod": "RUNPOD_POD_ID", "vast": "CONTAINER_ID"}
"""Variables with the provider's id of this pod."""

POD_KEYS = {"runpod": "RUNPOD_API_KEY", "vast": "CONTAINER_API_KEY"}
"""Variables with the key that a provider gives to a pod. It never leaves the pod."""

POD_ID = re.compile(r"[A-Za-z0-9]{1,64}")
"""An id of a pod; it becomes a part of an address."""

LIBRARIES = "LD_LIBRARY_PATH"

DRIVER_FOLDERS = ("/usr/local/nvidia/lib64", "/usr/lib/wsl/lib")
"""Where container runtimes and WSL put the driver's libraries."""

DRIVER_FILES = ("libnvidia-ml.so.1", "libcuda.so.1")

MAX_BYTES = 1024 * 1024
"""Bytes that are read of a process's environment or of a file."""


def adopt() -> None:
    """Add the folders of the driver's libraries that this session lacks, for all that a call runs."""
    known = [folder for folder in os.environ.get(LIBRARIES, "").split(":") if folder]
    wanted = [*variables().get(LIBRARIES, "").split(":"), *DRIVER_FOLDERS]
    missing = [folder for folder in wanted if folder not in known and _has_driver(folder)]
    if missing:
        os.environ[LIBRARIES] = ":".join([*known, *dict.fromkeys(missing)])


def ports() -> Dict[str, str]:
    """Return the variables in which a provider maps this pod's ports; the session's own win."""
    found = {**variables(), **os.environ}
    return {name: value for name, value in found.items() if PORTS.fullmatch(name)}


def provider() -> Optional[Provider]:
    """Return the provider that this pod can ask to stop it, or None without its id and key."""
    found = {**variables(), **os.environ}
    for name in POD_IDS:
        if found.get(POD_KEYS[name]) and POD_ID.fullmatch(found.get(POD_IDS[name], "")):
            return {"name": name, "id": found[POD_IDS[name]]}
    return None


def credentials() -> Dict[str, str]:
    """Return the variables by which a pod asks its provider to stop it."""
    found = {**variables(), **os.environ}
    return {name: found[name] for name in (*POD_IDS.values(), *POD_KEYS.values()) if name in found}


def hides_variables() -> bool:
    """Return whether the first process has overwritten its variables, as an sshd does."""
    return _is_overwritten(_environ("1"))


def _is_overwritten(environ: str) -> bool:
    return bool(environ) and not _of_process(environ)


def variables() -> Dict[str, str]:
    """Return the variables of the container, of the first process above all.

    An sshd as first process overwrites its own (HAMi-core#235): its child processes and some files may have them.
    """
    found: Dict[str, str] = {}
    for path in FILES:
        found.update(_of_file(reading.beginning(path, MAX_BYTES)))
    first = _environ("1")
    children = (
        reversed(_children_of_first()) if _is_overwritten(first) else ()
    )  # some may be another's, such as a model's
    for environ in [*map(_environ, children), first]:
        found.update(_of_process(environ))
    return found


def _environ(pid: str) -> str:
    return reading.beginning(os.path.join(PROC, pid, "environ"), MAX_BYTES)


def _has_driver(folder: str) -> bool:
    return folder.startswith("/") and any(os.path.exists(os.path.join(folder, name)) for name in DRIVER_FILES)


def _children_of_first() -> List[str]:
    text = reading.beginning(os.path.join(PROC, "1", "task", "1", "children"), MAX_BYTES)
    return [pid for pid in text.split() if pid.isdigit()][:50]


def _of_process(environ: str) -> Dict[str, str]:
    entries = environ.split("\0")
    pairs = (entry.partition("=") for entry in entries)
    return {name: value for name, equals, value in pairs if equals and re.fullmatch(r"\w+", name)}


def _of_file(content: str) -> Dict[str, str]:
    """Return the variables of lines such as `NAME=value` and `export NAME="value"`."""
    lines = re.findall(r"^(?:export )?(\w+)=(.*)$", content, re.MULTILINE)
    return {name: value.strip().strip("\"'") for name, value in lines}
