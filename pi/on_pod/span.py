"""What must be equal on all pods that serve one model together: packages, vLLM's variables, the files of the model."""

from __future__ import annotations

import glob
import hashlib
import ipaddress
import os
import re
from typing import Dict, Optional

from pi.on_pod import machine, network, own_folder, reading, records, storage, survey
from pi.on_pod.shapes import Repository
from pi.on_pod.span_shapes import SpanAnswer, SpanRequest
from pi.on_pod.wire import Wire

PACKAGES = ("vllm", "torch", "nvidia_nccl_cu*")
"""By the names of their metadata. Ranks with another NCCL hang at the first message."""

OF_ONE_POD = re.compile(
    r"VLLM_(API_KEY|HOST_IP|PORT|CACHE_ROOT|CONFIG_ROOT|ASSETS_CACHE|XLA_CACHE_PATH|SERVER_DEV_MODE|LOOPBACK_IP"
    r"|RPC_BASE_PATH|USE_RUST_FRONTEND|RUST_FRONTEND_PATH|ALLOW_RUNTIME_LORA_UPDATING|ALLOW_INSECURE_SERIALIZATION"
    r"|DP_\w+|ELASTIC_EP\w*|TORCH_PROFILER\w*|LORA_RESOLVER\w*)"
)
"""Variables that may differ, and those that the launcher unsets or sets."""

EXPORT = re.compile(r"^(?:export )?(VLLM_\w+)=(.*)$", re.MULTILINE)


def look(wire: Wire, request: SpanRequest) -> SpanAnswer:
    """Return what must be equal on all pods of a model. Changes nothing."""
    address = request["address"]
    return {
        "versions": versions(os.path.join(os.path.expanduser("~"), request["venv"])),
        "environment": environment(),
        "weights": weights(request["model"]),
        "interface": interface_of(address) if address else "",
        "machine": machine.identity(),
        "storage": shared_storage(),
    }


def versions(venv: str) -> Dict[str, str]:
    """Return the versions of the packages that talk between pods, "none" for one that a venv lacks."""
    found = {}
    for package in PACKAGES:
        paths = glob.glob(os.path.join(glob.escape(venv), "lib/python3*/site-packages", package + "-[0-9]*.dist-info"))
        names = [os.path.basename(path)[: -len(".dist-info")] for path in paths]
        found[package.rstrip("*").replace("nvidia_nccl_cu", "NCCL")] = " ".join(sorted(names)) or "none"
    return found


def environment() -> Dict[str, str]:
    """Return a digest of each variable of vLLM that a launcher on this pod gets: values may be secret."""
    text = reading.beginning(os.path.join(records.HOME, "env.sh"), 1 << 20)
    found = {**os.environ, **{name: value.strip("\"'") for name, value in EXPORT.findall(text)}}
    return {
        name: hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:12]
        for name, value in sorted(found.items())
        if name.startswith("VLLM_") and not OF_ONE_POD.fullmatch(name)
    }


def weights(model: Repository) -> Optional[str]:
    """Return one word for the files that vLLM loads: a commit of the hub, or a digest of a folder."""
    name = model["id"]
    if not survey.is_path(name) and not os.path.isdir(os.path.join(os.path.expanduser("~"), name)):
        return survey.commit_of(name, model["revision"])
    folder = os.path.join(os.path.expanduser("~"), os.path.expanduser(name))
    digest = hashlib.sha256()
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return None
    for each in names:
        path = os.path.join(folder, each)
        if os.path.isfile(path):
            digest.update(("%s %d\n" % (each, os.path.getsize(path))).encode("utf-8", "replace"))
        if each.endswith(".json"):
            digest.update(reading.beginning(path, 64 << 20).encode("utf-8", "replace"))
    return digest.hexdigest()[:16]


def shared_storage() -> str:
    """Return a name for the network storage of the hub's cache, "" if it is on a disk of the pod."""
    folder = os.path.realpath(storage.existing(storage.hub_cache()))
    mount = own_folder.mounted(folder)
    is_shared = ":" in mount.source or mount.source.startswith("//") or mount.kind.startswith("fuse")
    return "%s %s" % (mount.source, os.path.relpath(folder, mount.point)) if is_shared else ""


def interface_of(address: str) -> str:
    """Return the interface that has an address of the pod, "" if none has it."""
    wanted = ipaddress.ip_address(address)
    own = network.own_addresses()
    return next((interface for each, interface in own if ipaddress.ip_address(each) == wanted), "")
