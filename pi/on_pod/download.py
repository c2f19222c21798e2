"""Download of a model's weights from the hub into the pod's cache."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from pi.on_pod import cached, checkpoint, hub, logs, process, records, stacks, storage, watch, writing
from pi.on_pod.pace import paced
from pi.on_pod.shapes import Repository
from pi.on_pod.wire import Cancelled, PodError, Wire

REPORT_S = 1.0

STILL_LOG_BYTES = 4 * 1024

STALL_S = 180
"""A download without a new byte for so long does not recover by itself (huggingface_hub issue 4508: xet hangs)."""

TRIES = 5

PAUSE_S = 10
"""Before the second try; each further one waits so much longer."""

OF_XET = re.compile(r"CAS service|xethub|hf_xet|XetError|xet_core|Data processing error|File reconstruction")

BROKEN = re.compile(
    r"(?:Protocol|Read|Write|ChunkedEncoding)Error: |(?:Read|Write)Timeout: "
    r"|IncompleteRead|peer closed connection|[Cc]onnection (?:reset|broken|aborted)|Consistency check failed"
    r"|5\d\d (?:Server Error|Internal|Bad Gateway|Service Un|Gateway)|" + OF_XET.pattern
)
"""What `hf download` prints if the line or the hub broke during a download (huggingface_hub 1.x and 2.x)."""

NO_XET = "HF_HUB_DISABLE_XET"
"""The variable by which huggingface_hub downloads over plain HTTPS."""


def download(wire: Wire, repository: Repository, instance: str, environment: Mapping[str, str]) -> None:
    """Fetch a repository with `hf download`, which keeps the files of an earlier try. Raises PodError with its output.

    Skips copies of the weights that vLLM does not load. A download that stands still is started once more, without xet,
    and one whose connection broke up to TRIES times in a row without a further whole file.
    """
    model, revision = repository["id"], repository["revision"]
    sizes = hub.file_sizes(model, revision)
    copies = checkpoint.copies(sizes, repository["load_format"]) if repository["weights"] else checkpoint.WEIGHTS
    skipped = (*checkpoint.SKIPPED, *copies)
    total = sum(size for name, size in sizes.items() if not checkpoint.is_one_of(name, skipped)) or None
    _tidy(model)
    _check_space(model, total)
    words = ["bash", "-c", '. ~/.pi/env.sh && unset PI_API_KEY && exec "$@"', "pi-download", "hf", "download", model]
    if revision:
        words.append("--revision=" + revision)
    for pattern in skipped:
        words += ["--exclude", pattern]
    fetch, repo = _Fetch(wire, model, words, total, instance), cached.folder_of(model)
    variables, tries, whole = dict(environment), 1, cached.whole_size(repo)
    while True:
        try:
            if fetch.is_whole(variables):
                return
            if NO_XET in variables:
                raise _stalled(model)
            text = "no byte of %s came for %d s; trying again without xet" % (model, STALL_S)
        except PodError as error:
            log = error.detail.get("log", "") if error.kind == "download_failed" else ""
            grown = cached.whole_size(repo)
            tries, whole = (tries + 1 if grown <= whole else 2), grown
            if not BROKEN.search(log) or tries > TRIES:
                raise
            text = "the connection broke while %s came; trying again (%d of %d)" % (model, tries, TRIES)
            if not OF_XET.search(log) or NO_XET in variables:
                wire.emit({"event": "note", "text": text})
                _wait(wire, PAUSE_S * (tries - 1))
                continue
            text += ", without xet"
        wire.emit({"event": "note", "text": text})
        variables[NO_XET] = "1"
        _tidy(model, for_another_way=True)


def _wait(wire: Wire, seconds: float) -> None:
    deadline = time.monotonic() + paced(seconds)
    while time.monotonic() < deadline:
        wire.check_cancelled()
        time.sleep(0.1)


def _tidy(model: str, *, for_another_way: bool = False) -> None:
    """Delete unfinished files that no later try continues, or all of them, unless somebody fetches the model."""
    if not cached.fetchers(model):
        repo = cached.folder_of(model)
        cached.remove_unfinished(repo) if for_another_way else cached.remove_useless(repo)


def _stalled(model: str) -> PodError:
    return PodError("stalled", "the download of %s stands still: no byte came for %d s" % (model, STALL_S))


class Stall:
    """Measures how long the files of a download have not changed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._moved, self._last = clock, clock(), (-1, -1)

    def has_lasted(self, mark: Tuple[int, int]) -> bool:
        """Note the present size and newest change. Return whether they are the same for STALL_S."""
        if mark != self._last:
            self._last, self._moved = mark, self._clock()
        return self._clock() - self._moved >= paced(STALL_S)


class _Fetch(NamedTuple):
    """One repository to fetch, with the command for it."""

    wire: Wire
    model: str
    words: List[str]
    total: Optional[int]
    instance: str

    def is_whole(self, environment: Mapping[str, str]) -> bool:
        """Run the command to its end and report how far it is. Returns False if it stood still, and was ended.

        Raises PodError if it fails, and Cancelled.
        """
        log = os.path.join(records.LOGS, "download-%s.log" % self.model.replace("/", "--"))
        repo = cached.folder_of(self.model)
        fetcher = self._begun(log, environment)
        began, before, stall, progress = time.monotonic(), cached.size(repo), Stall(), watch.Watch()
        last = before
        try:
            while fetcher.poll() is None:
                self.wire.check_cancelled()
                size, newest = cached.size(repo), cached.newest_change(repo)
                if size != last:
                    last = size
                    progress.moved()
                if progress.is_due():
                    self._report_still(log, fetcher.pid, progress.still_s())
                speed = max(0, int((size - before) / max(time.monotonic() - began, 0.001)))
                self.wire.emit({"event": "download", "bytes": size, "bytes_per_s": speed, "total": self.total})
                if stall.has_lasted((size, newest)):
                    self._end(fetcher)
                    return False
                _pause(fetcher, REPORT_S)
        except Cancelled:
            self._end(fetcher)
            raise
        if fetcher.returncode:
            text = logs.tail_of(log, 16 * 1024)
            if "No space left" in text:
                _check_space(self.model, self.total)
            raise PodError("download_failed", "hf download ended with %s" % _ending(fetcher.returncode), log=text)
        return True

    def _begun(self, log: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        os.makedirs(records.LOGS, exist_ok=True)
        variables: Dict[str, str] = dict(os.environ, **environment, PI_INSTANCE=self.instance)
        with os.fdopen(writing.fresh(log), "wb") as output:
            return subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=variables,
            )

    def _report_still(self, log: str, pid: int, seconds: float) -> None:
        """Tell pi that the download gets no bytes."""
        text = logs.tail_of(log, STILL_LOG_BYTES)
        fetcher = stacks.without_stack(pid)
        self.wire.emit({"event": "still", "seconds": round(seconds), "log": text, "processes": [fetcher]})

    def _end(self, fetcher: "subprocess.Popen[bytes]") -> None:
        process.end(self.wire.progress, fetcher.pid, lambda: process.members(fetcher.pid, self.instance), 3)
        fetcher.wait()
        _tidy(self.model)


def _check_space(model: str, total: Optional[int]) -> None:
    """Raise PodError if the disk has too little space for the rest of the model."""
    folder = storage.existing(storage.hub_cache())
    missing = (total or 0) - cached.size(cached.folder_of(model))
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise PodError(
            "disk_full",
            "no space in %s: %.1f GB free, %s needs %.1f GB" % (folder, free / 1e9, model, missing / 1e9),
        )


def _pause(fetcher: "subprocess.Popen[bytes]", seconds: float) -> None:
    try:
        fetcher.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _ending(code: int) -> str:
    return "signal %s" % signal.Signals(-code).name if code < 0 else "exit code %d" % code
