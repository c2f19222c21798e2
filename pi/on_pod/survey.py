"""The survey before a plan: what a pod has and what is in use. pi parses the raw texts."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple, Optional, TypeVar

from pi.on_pod import (
    card,
    checkpoint,
    container,
    gpu_users,
    gpus,
    hub,
    process,
    reading,
    records,
    registry,
    storage,
    unrecorded,
    venvs,
)
from pi.on_pod.pace import paced
from pi.on_pod.shapes import AdapterFacts, ModelFacts, Repository, Survey, SurveyRequest
from pi.on_pod.wire import PodError, Wire

FILES_PATIENCE_S = 40
"""Seconds for the files of a request's models, on slow storage; others wait 60 s for the lock."""

HUB_PATIENCE_S = 20
"""Seconds for all that the hub says about one model."""

REF_BYTES = 1024

MOST_FILES = 100_000
"""Files of a model's folder; the largest repositories have some thousands."""

READ_BY_VLLM = (".json", ".safetensors", ".bin", ".pt", ".jinja", ".model")

Value = TypeVar("Value")


def survey(request: SurveyRequest) -> Survey:
    """Return facts of the pod and of the request's model.

    With `ask_hub`, the hub describes a model that is not on the pod. Raises PodError if the storage of models is out
    of reach.
    """
    model = request["model"]
    storage.check()
    if model and is_path(model):
        storage.check(os.path.expanduser(model))
    recorded, loose = records.load_all(), list(map(unrecorded.described, unrecorded.find_all()))
    with ThreadPoolExecutor(max_workers=2) as pool:
        computing = pool.submit(lambda: gpu_users.named(gpus.processes(), recorded))
        cards = pool.submit(gpus.described, request["gpu_query"])
        files = _read_files(request)
    return {
        "gpus": cards.result(),
        "gpu_processes": computing.result(),
        "ports": sorted(process.listening_ports().union(model["port"] for model in loose if model["port"])),
        "records": [records.described(record) for record in recorded],
        "vllm_version": venvs.vllm_version(),
        "extra_venvs": venvs.extra_venvs(),
        "memory_mib": meminfo("MemTotal") // 1024,
        "cpus": len(os.sched_getaffinity(0)),
        "disk_free_bytes": files.free,
        "public": container.ports(),
        "model": files.model,
        "adapters": files.adapters,
        "sizes": files.sizes,
        "architectures": venvs.architectures(),
        "provider": container.provider(),
    }


class Files(NamedTuple):
    """What the files of a request's models say, and the free bytes where the hub's cache is."""

    model: Optional[ModelFacts]
    adapters: dict[str, AdapterFacts]
    sizes: dict[str, int]
    free: int


def _read_files(request: SurveyRequest) -> Files:
    """Read the files of a request's models. Raises PodError if storage does not answer in time."""
    try:
        return reading.within(paced(FILES_PATIENCE_S), lambda: _files(request))
    except TimeoutError:
        raise PodError("storage", "models cannot be read: no answer within %d s" % FILES_PATIENCE_S) from None


def _files(request: SurveyRequest) -> Files:
    model = request["model"]
    with ThreadPoolExecutor(max_workers=8) as pool:
        adapters = {source: pool.submit(adapter_facts, source) for source in request["adapters"]}
        sized = {each: pool.submit(_weights_bytes, each) for each in request["checkpoints"]}
        described = _described_model(model, request["ask_hub"]) if model else None
        sizes = {each: future.result() for each, future in sized.items()}
        return Files(
            described,
            {source: future.result() for source, future in adapters.items()},
            {each: size for each, size in sizes.items() if size},
            shutil.disk_usage(storage.existing(storage.hub_cache())).free,
        )


def _described_model(model: str, ask_hub: bool) -> ModelFacts:
    """Return the facts of the request's model, from its files or from the hub, with the verdicts of the vLLMs."""
    found = model_facts(model)
    if found["where"] == "missing" and ask_hub and not hub.is_offline():
        found = _of_hub(lambda: hub.describe(model), found)
    config = found.get("config")
    if config:
        folders = {os.path.basename(venvs.VENV), *venvs.extra_venvs()}
        verdicts = {name: registry.verdict(os.path.join(os.path.dirname(venvs.VENV), name), config) for name in folders}
        found["verdicts"] = {name: verdict for name, verdict in verdicts.items() if verdict}
    return found


def _weights_bytes(model: str) -> Optional[int]:
    """Return the bytes of a checkpoint's weights, from the cache or from the hub."""
    found = model_facts(model)
    if found["where"] != "missing" or hub.is_offline():
        return found.get("weights_bytes")
    return _of_hub(lambda: hub.weights_bytes(model), None)


def _of_hub(ask: Callable[[], Value], otherwise: Value) -> Value:
    """Return what the hub answers, or the other value if it takes too long: its time-out is one for each read."""
    try:
        return reading.within(paced(HUB_PATIENCE_S), ask)
    except TimeoutError:
        return otherwise


def look(wire: Wire, request: SurveyRequest) -> Survey:
    """Return a survey without a reservation."""
    return survey(request)


def is_path(model: str) -> bool:
    return model.startswith(("/", "~"))


def model_facts(model: str, load_format: str = "auto") -> ModelFacts:
    """Return where a model's files are on this pod, with its config, size and card."""
    if is_path(model):
        folder = os.path.expanduser(model)
        return {**files(folder, load_format), "where": "path"} if os.path.isdir(folder) else {"where": "absent"}
    snapshot = snapshot_of(model, load_format)
    return {**files(snapshot, load_format), "where": "cached"} if snapshot else {"where": "missing"}


def snapshot_of(model: str, load_format: str = "auto") -> Optional[str]:
    """Return the cached snapshot of a hub model that has all weights of the loaded format, or None."""
    snapshot = _cached(model)
    return snapshot if snapshot and _is_whole(snapshot, load_format) else None


def _cached(model: str, revision: Optional[str] = None) -> Optional[str]:
    """Return the folder of a revision in the hub's cache, or None. A commit has no file in `refs`."""
    commit = commit_of(model, revision)
    return os.path.join(_repository(model), "snapshots", commit) if commit else None


def commit_of(model: str, revision: Optional[str] = None) -> Optional[str]:
    """Return the commit of a revision in the hub's cache, or None if its snapshot is not there."""
    repository = _repository(model)
    commit = reading.text(os.path.join(repository, "refs", revision or "main"), REF_BYTES).strip() or revision or ""
    if not re.fullmatch(r"\w[\w.-]*", commit):
        return None
    return commit if os.path.isdir(os.path.join(repository, "snapshots", commit)) else None


def _repository(model: str) -> str:
    return os.path.join(storage.hub_cache(), "models--" + model.replace("/", "--"))


def is_present(repository: Repository) -> bool:
    """Return whether what vLLM reads of a repository is in the hub's cache, or a folder of that name in the home."""
    if os.path.isdir(os.path.join(os.path.expanduser("~"), repository["id"])):
        return True  # vLLM starts in the home and prefers a folder
    snapshot = _cached(repository["id"], repository["revision"])
    if snapshot is None:
        return False
    if repository["weights"]:
        return _is_whole(snapshot, repository["load_format"]) or _is_adapter(snapshot)
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
    facts = card.json_object(config) or {}
    patterns = card.json_object(facts.get("rank_pattern")) or {}
    ranks = [rank for rank in (facts.get("r"), *patterns.values()) if type(rank) is int and 0 < rank < 10**6]
    base = facts.get("base_model_name_or_path")
    return {
        "where": "path" if is_path(source) else "cached" if folder else "missing",
        "rank": max(ranks, default=None),
        "base": base[:200] if isinstance(base, str) else None,
    }


def _is_whole(snapshot: str, load_format: str) -> bool:
    names = _sizes(snapshot)
    index = checkpoint.index_name(names, load_format)
    content = (_json(os.path.join(snapshot, index)) or {}) if index else None
    return checkpoint.whole(names, content, load_format)


def files(folder: str, load_format: str = "auto") -> ModelFacts:
    """Read the config, the size of the weights and the card in a model's folder."""
    sizes = _sizes(folder)
    index = checkpoint.index_name(sizes, load_format)
    content = _json(os.path.join(folder, index)) if index else None
    jinja = reading.text(os.path.join(folder, "chat_template.jinja"))
    template = card.template_text(_json(os.path.join(folder, "tokenizer_config.json")), jinja)
    return {
        "where": "path",
        "config": card.config(lambda name: _json(os.path.join(folder, name)), sizes),
        "weights_bytes": checkpoint.weights_bytes(sizes, content, load_format),
        "card": card.card(sizes, template, card.origins_of(folder)),
    }


def _sizes(folder: str) -> dict[str, int]:
    """Return the bytes of the files in a folder, without links to nowhere or in a circle.

    Raises PodError if a file that vLLM reads is something else, such as a FIFO.
    """
    sizes = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, MOST_FILES):
            with contextlib.suppress(OSError):
                found = entry.stat()
                if stat.S_ISREG(found.st_mode):
                    sizes[entry.name] = found.st_size
                elif not stat.S_ISDIR(found.st_mode) and entry.name.endswith(READ_BY_VLLM):
                    raise _unreadable(entry.path, "it is %s, not a file" % reading.kind(found))
    return sizes


def _unreadable(path: str, problem: str) -> PodError:
    return PodError("unreadable", "cannot read %s: %s" % (path, problem))


def _json(path: str) -> Any:
    """Return the value of a JSON file, or None if it does not exist or has no JSON.

    Raises PodError for a file that vLLM could not read either, such as a FIFO.
    """
    try:
        return reading.document(path)
    except reading.NotJson:
        return None
    except reading.ReadError as error:
        if error.is_missing:
            return None
        raise _unreadable(path, str(error)) from None


def meminfo(field: str) -> int:
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0
