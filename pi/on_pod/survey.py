"""What a pod has and what is in use, asked before a plan is made. Texts are sent raw and read by pi."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

from pi.on_pod import gpus, hub, process, records, storage
from pi.on_pod.wire import Wire

VENV = os.path.expanduser("~/venv")


def survey(request: dict[str, Any]) -> dict[str, Any]:
    """Facts of the pod, and of the request's model on it where it names one.

    With `ask_hub`, a model that is not on the pod yet is described as the hub does. Raises PodError where the
    storage of models cannot be reached.
    """
    model = request["model"]
    for path in [None] + ([os.path.expanduser(model)] if is_path(model) else []):
        storage.check(path)
    described_model = model_facts(model) if model else None
    if described_model and described_model["where"] == "missing" and request.get("ask_hub"):
        described_model.update(hub.describe(model))
    known = records.load_all()
    with ThreadPoolExecutor(max_workers=2) as pool:
        computing = pool.submit(_gpu_processes, known)
        cards = gpus.nvidia_smi(request["gpu_query"])
    return {
        "gpus": cards,
        "gpu_processes": computing.result(),
        "ports": sorted(process.listening_ports()),
        "records": [described(record) for record in known],
        "vllm_version": vllm_version(),
        "beside": versions_beside(),
        "memory_mib": _meminfo("MemTotal") // 1024,
        "cpus": len(os.sched_getaffinity(0)),
        "disk_free_bytes": shutil.disk_usage(storage.existing(storage.hub_cache())).free,
        "public": public_addresses(),
        "model": described_model,
    }


def _gpu_processes(known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What computes on the GPUs (see `gpus.processes`), with the `name` of its deployment, None for others."""
    found = gpus.processes()
    names = {pid: record["name"] for record in known for pid in records.living(record)} if found else {}
    return [dict(process, name=names.get(process["pid"])) for process in found]


def look(wire: Wire, request: dict[str, Any]) -> dict[str, Any]:
    """`survey` as a verb of its own: nothing is reserved."""
    return survey(request)


def described(record: dict[str, Any]) -> dict[str, Any]:
    """A record with what is true of it now: `running`, `starting`, `crashed`, or `rebooted` (its pod was, since)."""
    now = dict(record)
    if records.is_of_another_boot(record):
        now["state"] = "rebooted"
    elif records.is_running(record):
        now["state"] = "starting" if record["status"] == "starting" else "running"
    elif records.is_starting(record):
        now["state"] = "starting"
    else:
        now["state"] = "crashed"
    now["exit"] = records.exit_code(record["name"])
    now["ended_s_ago"] = records.ended_s_ago(record["name"])
    return now


def vllm_version(venv: str = VENV) -> Optional[str]:
    """Version of the vLLM in a venv, from its package metadata; None when there is none."""
    for path in glob.glob(os.path.join(glob.escape(venv), "lib/python3*/site-packages/vllm-*.dist-info")):
        found = re.fullmatch(r"vllm-(.+)\.dist-info", os.path.basename(path))
        if found:
            return found.group(1)
    return None


def is_path(model: Optional[str]) -> bool:
    return bool(model) and str(model).startswith(("/", "~"))


def versions_beside() -> dict[str, str]:
    """Versions of the vLLMs in the venvs beside ~/venv, by folder: those that a setup has made and found to load."""
    found = {}
    for mark in glob.glob(glob.escape(VENV) + "-*/.pi-checked"):
        venv = os.path.dirname(mark)
        version = vllm_version(venv)
        if version:
            found[os.path.basename(venv)] = version
    return found


def model_facts(model: str) -> dict[str, Any]:
    """Where a model's files are on this pod: `path`, `cached`, `missing` or (a path that is not there) `absent`."""
    if is_path(model):
        folder = os.path.expanduser(model)
        return dict(files(folder), where="path") if os.path.isdir(folder) else {"where": "absent"}
    snapshot = snapshot_of(model)
    return dict(files(snapshot), where="cached") if snapshot else {"where": "missing"}


def snapshot_of(model: str) -> Optional[str]:
    """The cached snapshot of a hub model that has its weights in full, or None."""
    repo = os.path.join(storage.hub_cache(), "models--" + model.replace("/", "--"))
    try:
        with open(os.path.join(repo, "refs", "main")) as file:
            snapshot = os.path.join(repo, "snapshots", file.read().strip())
    except OSError:
        return None
    return snapshot if _is_whole(snapshot) else None


def _is_whole(snapshot: str) -> bool:
    wanted = {"config.json"}
    index = os.path.join(snapshot, hub.INDEX)
    if os.path.exists(index):
        wanted |= _weight_files(index)
    elif not glob.glob(os.path.join(snapshot, "*.safetensors")) and not glob.glob(os.path.join(snapshot, "*.bin")):
        return False
    return all(os.path.exists(os.path.join(snapshot, name)) for name in wanted)


def _weight_files(index: str) -> set[str]:
    """The files that an index of safetensors names; the index of a folder "unreadable" where it cannot be read."""
    try:
        with open(index) as file:
            return set(map(str, json.load(file)["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"unreadable/" + hub.INDEX}


def files(folder: str) -> dict[str, Any]:
    """`config` (config.json, parsed) and `weights_bytes` (its safetensors) of a model's folder; None where unknown."""
    weights = glob.glob(os.path.join(glob.escape(folder), "*.safetensors"))
    sizes = {os.path.basename(path): os.path.getsize(path) for path in weights}
    index = _json(os.path.join(folder, hub.INDEX))
    return {"config": _json(os.path.join(folder, "config.json")), "weights_bytes": hub.weights_bytes(sizes, index)}


def _json(path: str) -> Any:
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


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
