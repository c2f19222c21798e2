"""Download of a model's weights from the hub into the pod's cache."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import Mapping, Optional

from pi.on_pod import checkpoint, hub, logs, process, records, stacks, storage, watch
from pi.on_pod.shapes import Repository
from pi.on_pod.wire import Cancelled, PodError, Wire

REPORT_S = 1.0

STILL_LOG_BYTES = 4 * 1024


def download(wire: Wire, repository: Repository, instance: str, environment: Mapping[str, str]) -> None:
    """Fetch a repository with `hf download`, which resumes an earlier try. Raises PodError with its output.

    Skips copies of the weights that vLLM does not load.
    """
    model, revision = repository["id"], repository["revision"]
    sizes = hub.file_sizes(model, revision)
    copies = checkpoint.copies(sizes, repository["load_format"]) if repository["weights"] else checkpoint.WEIGHTS
    skipped = (*checkpoint.SKIPPED, *copies)
    total = sum(size for name, size in sizes.items() if not checkpoint.is_one_of(name, skipped)) or None
    _check_space(model, total)
    words = ["bash", "-c", '. ~/.pi/env.sh && unset PI_API_KEY && exec "$@"', "pi-download", "hf", "download", model]
    if revision:
        words.append("--revision=" + revision)
    for pattern in skipped:
        words += ["--exclude", pattern]
    log = os.path.join(records.LOGS, "download-%s.log" % model.replace("/", "--"))
    os.makedirs(records.LOGS, exist_ok=True)
    with open(log, "wb") as output:
        fetcher = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict(os.environ, **environment, PI_INSTANCE=instance),
        )
    repo = os.path.join(storage.hub_cache(), "models--" + model.replace("/", "--"))
    began, before = time.monotonic(), _size(repo)
    last, progress = before, watch.Watch()
    try:
        while fetcher.poll() is None:
            wire.check_cancelled()
            size = _size(repo)
            if size != last:
                last = size
                progress.moved()
            if progress.is_due():
                _report_still(wire, log, fetcher.pid, progress.still_s())
            seconds = max(time.monotonic() - began, 0.001)
            speed = int((size - before) / seconds)
            wire.emit({"event": "download", "bytes": size, "bytes_per_s": speed, "total": total})
            _pause(fetcher, REPORT_S)
    except Cancelled:
        process.end(wire.progress, fetcher.pid, lambda: process.members(fetcher.pid, instance), 3)
        raise
    if fetcher.returncode:
        text = logs.tail_of(log, 16 * 1024)
        if "No space left" in text:
            _check_space(model, total)
        raise PodError("download_failed", "hf download ended with %s" % _ending(fetcher.returncode), log=text)


def _report_still(wire: Wire, log: str, pid: int, seconds: float) -> None:
    """Tell pi that a download gets no bytes."""
    text = logs.tail_of(log, STILL_LOG_BYTES)
    wire.emit({"event": "still", "seconds": round(seconds), "log": text, "processes": [stacks.without_stack(pid)]})


def _check_space(model: str, total: Optional[int]) -> None:
    """Raise PodError if the disk has too little space for the rest of the model."""
    folder = storage.existing(storage.hub_cache())
    missing = (total or 0) - _size(os.path.join(storage.hub_cache(), "models--" + model.replace("/", "--")))
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise PodError(
            "disk_full",
            "no space in %s: %.1f GiB free, %s needs %.1f GiB" % (folder, free / 2**30, model, missing / 2**30),
        )


def _pause(fetcher: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        fetcher.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _ending(code: int) -> str:
    return "signal %s" % signal.Signals(-code).name if code < 0 else "exit code %d" % code


def _size(repo: str) -> int:
    """Return the bytes of a repository in the cache, with unfinished files."""
    blobs = os.path.join(repo, "blobs")
    try:
        return sum(entry.stat().st_size for entry in os.scandir(blobs) if entry.is_file())
    except OSError:
        return 0
