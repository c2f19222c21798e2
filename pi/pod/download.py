"""Weights from the hub into the pod's cache, with progress, ended cleanly when pi is cancelled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from fnmatch import fnmatch
from typing import Optional
from urllib.request import Request, urlopen

from pi.pod import process, records, survey
from pi.pod.wire import Cancelled, PodError, Wire

SKIPPED = ("original/*", "metal/*", "*.pth", "*.gguf", "*.onnx")
"""Copies of the weights in formats that vLLM does not load from such repositories."""

REPORT_S = 1.0


def download(wire: Wire, model: str, instance: str) -> None:
    """Fetch a model with `hf download`, resuming what an earlier try left. Raises PodError with its words."""
    words = ["bash", "-c", '. ~/.pi/env.sh && exec "$@"', "pi-download", "hf", "download", model]
    for pattern in SKIPPED:
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
            env=dict(os.environ, PI_INSTANCE=instance),
        )
    repo = os.path.join(survey.hub_cache(), "models--" + model.replace("/", "--"))
    began, before, total = time.monotonic(), _size(repo), hub_size(model)
    try:
        while fetcher.poll() is None:
            wire.check_cancelled()
            size = _size(repo)
            seconds = max(time.monotonic() - began, 0.001)
            wire.emit("download", bytes=size, bytes_per_s=int((size - before) / seconds), total=total)
            _pause(fetcher, REPORT_S)
    except Cancelled:
        process.end(wire, fetcher.pid, lambda: process.members(fetcher.pid, instance), 3)
        raise
    if fetcher.returncode:
        with open(log, "rb") as file:
            text = file.read()[-16 * 1024 :].decode("utf-8", "replace")
        raise PodError("download_failed", "hf download ended with %s" % _ending(fetcher.returncode), log=text)


def hub_size(model: str) -> Optional[int]:
    """Bytes of a repository's files that will be fetched, as the hub tells; None where it does not.

    `GET /api/models/ID?blobs=true` lists `siblings` with `rfilename` and `size` (Hugging Face Hub API).
    """
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co") + "/api/models/" + model + "?blobs=true"
    token = _token()
    headers = {"Authorization": "Bearer " + token} if token else {}
    try:
        with urlopen(Request(address, headers=headers), timeout=10) as reply:
            siblings = json.load(reply)["siblings"]
        return sum(
            int(file["size"])
            for file in siblings
            if not any(fnmatch(file["rfilename"], pattern) for pattern in SKIPPED)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _token() -> str:
    """HF_TOKEN as setup stored it, read the way a login shell does."""
    done = subprocess.run(
        ["bash", "-c", '. ~/.pi/env.sh; printf %s "${HF_TOKEN:-}"'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    return done.stdout.decode("utf-8", "replace")


def _pause(fetcher: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        fetcher.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _ending(code: int) -> str:
    return "signal %s" % signal.Signals(-code).name if code < 0 else "exit code %d" % code


def _size(repo: str) -> int:
    """Bytes of a repository in the cache, unfinished files included."""
    blobs = os.path.join(repo, "blobs")
    try:
        return sum(entry.stat().st_size for entry in os.scandir(blobs) if entry.is_file())
    except OSError:
        return 0
