"""What a pod has and what is in use, asked before a plan is made. Texts are sent raw and read by pi."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
import threading
from typing import Any, Optional

from pi.pod import hub, process, records
from pi.pod.wire import Wire

VENV = os.path.expanduser("~/venv")

MAX_ANSWER = 64 * 1024
"""Bytes of an answer of nvidia-smi that are read; 16 GPUs need about 2,000."""

SMI_PATIENCE_S = 20.0


def survey(request: dict[str, Any]) -> dict[str, Any]:
    """Facts of the pod, and of the request's model on it where it names one.

    With `ask_hub`, a model that is not on the pod yet is described as the hub does.
    """
    model = request["model"]
    described_model = model_facts(model) if model else None
    if described_model and described_model["where"] == "missing" and request.get("ask_hub"):
        described_model.update(hub.describe(model))
    return {
        "gpus": nvidia_smi(request["gpu_query"]),
        "ports": sorted(process.listening_ports()),
        "records": [described(record) for record in records.load_all()],
        "vllm_version": vllm_version(),
        "memory_mib": _meminfo("MemTotal") // 1024,
        "cpus": len(os.sched_getaffinity(0)),
        "disk_free_bytes": shutil.disk_usage(existing(hub_cache())).free,
        "public": public_addresses(),
        "model": described_model,
    }


def look(wire: Wire, request: dict[str, Any]) -> dict[str, Any]:
    """`survey` as a verb of its own: nothing is reserved."""
    return survey(request)


def described(record: dict[str, Any]) -> dict[str, Any]:
    """A record with what is true of it now: `running`, `starting` or `crashed`."""
    now = dict(record)
    if records.is_running(record):
        now["state"] = "starting" if record["status"] == "starting" else "running"
    elif records.is_starting(record):
        now["state"] = "starting"
    else:
        now["state"] = "crashed"
    now["exit"] = records.exit_code(record["name"])
    return now


def nvidia_smi(query: str) -> dict[str, Any]:
    """The answer of `nvidia-smi`, or why there is none: `{"text": ..., "error": ...}`."""
    program = shutil.which("nvidia-smi")
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
    end = threading.Timer(SMI_PATIENCE_S, process.kill_group, [asked.pid])
    end.start()
    with asked.stdout:
        text = asked.stdout.read(MAX_ANSWER).decode("utf-8", "replace")
    if len(text) >= MAX_ANSWER:
        process.kill_group(asked.pid)  # it has more to say than anyone wants to know
    late = asked.wait() and end.finished.is_set()
    end.cancel()
    if late:
        return {"text": "", "error": "nvidia-smi gave no answer within %d s" % SMI_PATIENCE_S}
    return {"text": text, "error": text.strip() if asked.returncode else None}


def vllm_version(venv: str = VENV) -> Optional[str]:
    """Version of the vLLM in a venv, from its package metadata; None when there is none."""
    for path in glob.glob(os.path.join(venv, "lib/python3*/site-packages/vllm-*.dist-info")):
        found = re.fullmatch(r"vllm-(.+)\.dist-info", os.path.basename(path))
        if found:
            return found.group(1)
    return None


def hub_cache() -> str:
    """Where huggingface_hub keeps models (its documented variables, in its order)."""
    home = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    return os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")


def model_facts(model: str) -> dict[str, Any]:
    """Where a model's files are on this pod: `path`, `cached`, `missing` or (a path that is not there) `absent`."""
    if model.startswith(("/", "~")):
        folder = os.path.expanduser(model)
        return dict(files(folder), where="path") if os.path.isdir(folder) else {"where": "absent"}
    snapshot = snapshot_of(model)
    return dict(files(snapshot), where="cached") if snapshot else {"where": "missing"}


def snapshot_of(model: str) -> Optional[str]:
    """The cached snapshot of a hub model that has its weights in full, or None."""
    repo = os.path.join(hub_cache(), "models--" + model.replace("/", "--"))
    try:
        with open(os.path.join(repo, "refs", "main")) as file:
            snapshot = os.path.join(repo, "snapshots", file.read().strip())
    except OSError:
        return None
    return snapshot if _is_whole(snapshot) else None


def _is_whole(snapshot: str) -> bool:
    wanted = {"config.json"}
    index = os.path.join(snapshot, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as file:
            wanted |= set(json.load(file)["weight_map"].values())
    elif not glob.glob(os.path.join(snapshot, "*.safetensors")) and not glob.glob(os.path.join(snapshot, "*.bin")):
        return False
    return all(os.path.exists(os.path.join(snapshot, name)) for name in wanted)


def files(folder: str) -> dict[str, Any]:
    """`config` (config.json, parsed) and `weights_bytes` (all safetensors) of a model's folder."""
    try:
        with open(os.path.join(folder, "config.json")) as file:
            config = json.load(file)
    except (OSError, ValueError):
        config = None
    weights = glob.glob(os.path.join(folder, "*.safetensors"))
    return {"config": config, "weights_bytes": sum(map(os.path.getsize, weights)) or None}


def public_addresses() -> dict[str, str]:
    """How a provider maps this pod's ports to the outside, as its first process's environment tells it.

    RunPod: RUNPOD_POD_ID, RUNPOD_PUBLIC_IP, RUNPOD_TCP_PORT_<port>; Vast.ai: PUBLIC_IPADDR,
    VAST_TCP_PORT_<port> (the providers' documentation of their environment variables).
    """
    try:
        with open("/proc/1/environ", "rb") as file:
            first = dict(
                entry.decode("utf-8", "replace").partition("=")[::2] for entry in file.read().split(b"\0") if entry
            )
    except OSError:
        first = {}
    known = re.compile(r"RUNPOD_POD_ID|RUNPOD_PUBLIC_IP|PUBLIC_IPADDR|(RUNPOD|VAST)_TCP_PORT_\d+")
    return {key: value for key, value in {**first, **os.environ}.items() if known.fullmatch(key)}


def _meminfo(field: str) -> int:
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


def existing(path: str) -> str:
    """The nearest folder of a path that is there."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
