"""The survey before a plan: what a pod has and what is in use. pi parses the raw texts."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional, cast

from pi.on_pod import gpus, hub, process, records, storage
from pi.on_pod.shapes import (
    AdapterFacts,
    LiveRecord,
    ModelFacts,
    ModelSize,
    NamedGpuUse,
    Record,
    Repository,
    Survey,
    SurveyRequest,
)
from pi.on_pod.wire import Wire

VENV = os.path.expanduser("~/venv")


def survey(request: SurveyRequest) -> Survey:
    """Return facts of the pod and of the request's model.

    With `ask_hub`, the hub describes a model that is not on the pod. Raises PodError if the storage of models is out
    of reach.
    """
    model = request["model"]
    storage.check()
    if model and is_path(model):
        storage.check(os.path.expanduser(model))
    described_model = model_facts(model) if model else None
    if described_model and described_model["where"] == "missing" and request["ask_hub"]:
        described_model = {**hub.describe(str(model)), "where": "missing"}
    recorded = records.load_all()
    with ThreadPoolExecutor(max_workers=8) as pool:
        computing = pool.submit(_gpu_processes, recorded)
        adapters = {source: pool.submit(adapter_facts, source) for source in request["adapters"]}
        cards = gpus.described(request["gpu_query"])
    return {
        "gpus": cards,
        "gpu_processes": computing.result(),
        "ports": sorted(process.listening_ports()),
        "records": [described(record) for record in recorded],
        "vllm_version": vllm_version(),
        "extra_venvs": extra_venvs(),
        "memory_mib": _meminfo("MemTotal") // 1024,
        "cpus": len(os.sched_getaffinity(0)),
        "disk_free_bytes": shutil.disk_usage(storage.existing(storage.hub_cache())).free,
        "public": public_addresses(),
        "model": described_model,
        "adapters": {source: reading.result() for source, reading in adapters.items()},
    }


def _gpu_processes(recorded: list[Record]) -> list[NamedGpuUse]:
    """Return the processes that compute on the GPUs, with the name of their deployment or None."""
    uses = gpus.processes()
    names = {pid: record["name"] for record in recorded for pid in records.living(record)} if uses else {}
    return [{**use, "name": names.get(use["pid"])} for use in uses]


def look(wire: Wire, request: SurveyRequest) -> Survey:
    """Return a survey without a reservation."""
    return survey(request)


def described(record: Record) -> LiveRecord:
    """Return a record with the present state of its deployment, as the processes show it."""
    now = cast(LiveRecord, dict(record))
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
    """Return the version of vLLM in a venv, from its package metadata, or None if it has no vLLM."""
    for path in glob.glob(os.path.join(glob.escape(venv), "lib/python3*/site-packages/vllm-*.dist-info")):
        match = re.fullmatch(r"vllm-(.+)\.dist-info", os.path.basename(path))
        if match:
            return match.group(1)
    return None


def is_path(model: str) -> bool:
    return model.startswith(("/", "~"))


def extra_venvs() -> dict[str, str]:
    """Return the versions of vLLM in the extra venvs that a setup made and checked, by folder."""
    versions = {}
    for mark in glob.glob(glob.escape(VENV) + "-*/.pi-checked"):
        venv = os.path.dirname(mark)
        version = vllm_version(venv)
        if version:
            versions[os.path.basename(venv)] = version
    return versions


def model_facts(model: str) -> ModelFacts:
    """Return where a model's files are on this pod, with its config and size."""
    if is_path(model):
        folder = os.path.expanduser(model)
        return {**files(folder), "where": "path"} if os.path.isdir(folder) else {"where": "absent"}
    snapshot = snapshot_of(model)
    return {**files(snapshot), "where": "cached"} if snapshot else {"where": "missing"}


def snapshot_of(model: str, revision: Optional[str] = None) -> Optional[str]:
    """Return the cached snapshot of a hub model that has all its weights, or None."""
    snapshot = _cached(model, revision)
    return snapshot if snapshot and _is_whole(snapshot) else None


def _cached(model: str, revision: Optional[str] = None) -> Optional[str]:
    """Return the folder of a revision in the hub's cache, or None. A commit has no file in `refs`."""
    repo = os.path.join(storage.hub_cache(), "models--" + model.replace("/", "--"))
    try:
        with open(os.path.join(repo, "refs", revision or "main")) as file:
            commit = file.read().strip()
    except OSError:
        commit = revision or ""
    snapshot = os.path.join(repo, "snapshots", commit)
    return snapshot if commit and os.path.isdir(snapshot) else None


def is_present(repository: Repository) -> bool:
    """Return whether what vLLM reads of a repository is in the hub's cache, or a folder of that name in the home."""
    if os.path.isdir(os.path.join(os.path.expanduser("~"), repository["id"])):
        return True  # vLLM starts in the home and prefers a folder
    snapshot = _cached(repository["id"], repository["revision"])
    if snapshot is None:
        return False
    if repository["weights"]:
        return _is_whole(snapshot) or _is_adapter(snapshot)
    return any(os.path.exists(os.path.join(snapshot, name)) for name in ("config.json", "tokenizer_config.json"))


ADAPTER_CONFIG = "adapter_config.json"


def _is_adapter(snapshot: str) -> bool:
    """Return whether a snapshot has a whole LoRA adapter, as PEFT saves it."""
    weights = (os.path.join(snapshot, "adapter_model" + ending) for ending in (".safetensors", ".bin"))
    return os.path.exists(os.path.join(snapshot, ADAPTER_CONFIG)) and any(map(os.path.exists, weights))


def adapter_facts(source: str) -> AdapterFacts:
    """Return what the configuration of an adapter says, on the pod or on the hub."""
    if is_path(source):
        folder: Optional[str] = os.path.expanduser(source)
        if not os.path.isdir(str(folder)):
            return {"where": "absent", "rank": None, "base": None}
    else:
        folder = _cached(source)
    config = _json(os.path.join(folder, ADAPTER_CONFIG)) if folder else hub.json_file(source, ADAPTER_CONFIG)
    facts = hub.json_object(config) or {}
    patterns = hub.json_object(facts.get("rank_pattern")) or {}
    ranks = [rank for rank in (facts.get("r"), *patterns.values()) if type(rank) is int and 0 < rank < 10**6]
    base = facts.get("base_model_name_or_path")
    return {
        "where": "path" if is_path(source) else "cached" if folder else "missing",
        "rank": max(ranks, default=None),
        "base": base[:200] if isinstance(base, str) else None,
    }


def _is_whole(snapshot: str) -> bool:
    wanted = {"config.json"}
    index = os.path.join(snapshot, hub.INDEX)
    if os.path.exists(index):
        wanted |= _weight_files(index)
    elif not glob.glob(os.path.join(snapshot, "*.safetensors")) and not glob.glob(os.path.join(snapshot, "*.bin")):
        return False
    return all(os.path.exists(os.path.join(snapshot, name)) for name in wanted)


def _weight_files(index: str) -> set[str]:
    """Return the files that an index of safetensors names; a file that never exists if it cannot be read."""
    try:
        with open(index) as file:
            return set(map(str, json.load(file)["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"unreadable/" + hub.INDEX}


def files(folder: str) -> ModelSize:
    """Read the config and the size of the weights in a model's folder."""
    weights = glob.glob(os.path.join(glob.escape(folder), "*.safetensors"))
    sizes = {os.path.basename(path): os.path.getsize(path) for path in weights}
    index = _json(os.path.join(folder, hub.INDEX))
    config = hub.json_object(_json(os.path.join(folder, "config.json")))
    return {"config": config, "weights_bytes": hub.weights_bytes(sizes, index)}


def _json(path: str) -> Any:
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def public_addresses() -> dict[str, str]:
    """Return the variables of the first process in which a provider maps this pod's ports.

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
    names = re.compile(r"RUNPOD_POD_ID|RUNPOD_PUBLIC_IP|PUBLIC_IPADDR|(RUNPOD|VAST)_TCP_PORT_\d+")
    return {key: value for key, value in {**first, **os.environ}.items() if names.fullmatch(key)}


def _meminfo(field: str) -> int:
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0
