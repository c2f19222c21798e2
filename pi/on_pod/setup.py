"""`pods setup` on the pod: put pi's files in place and run pod_setup.sh, its steps sent as they happen."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from typing import IO, Any, Iterator

from pi.on_pod import audit, process, records, redact
from pi.on_pod.wire import Cancelled, PodError, Wire

TAIL_LINES = 25

LINE_BYTES = 16 * 1024
"""Bytes of one line of output that are kept."""


@audit.logged("setup")
def setup(wire: Wire, request: dict[str, Any]) -> dict[str, Any]:
    """Run the setup script. Returns its facts, `{"gpu": [lines], "vllm_version": [text], ...}`, and the pod's `boot`.

    A lost connection does not end it; a second call waits for the first, then finds everything done.
    """
    wire.hide(redact.in_environment_file(request["files"]["env.sh"]))
    folder = os.path.join(records.HOME, "setup")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, "lock"), "a") as lock:
        _take(wire, lock)
        _write_files(request["files"])
        script = subprocess.Popen(
            ["bash", os.path.join(folder, "pod_setup.sh")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=os.path.expanduser("~"),
            env=dict(_overlaid(request["environment"]), PI_INSTANCE=request["environment"]["PI_MARK"]),
        )
        try:
            facts = _listen(wire, script, request["environment"]["PI_MARK"], os.path.join(folder, "setup.log"))
            return dict(facts, boot=process.boot())
        except Cancelled:
            living = lambda: process.members(script.pid, request["environment"]["PI_MARK"])  # noqa: E731
            process.end(wire.progress, script.pid, living, 5)
            raise


def _overlaid(sent: dict[str, str]) -> dict[str, str]:
    """The pod's environment with what pi sent; a mirror or index that the pod sets itself wins."""
    own = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_"))}
    return {**os.environ, **sent, **own}


def _write_files(files: dict[str, str]) -> None:
    for name, text in files.items():
        path = os.path.join(records.HOME, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(path + ".new", path)


def _take(wire: Wire, lock: IO[str]) -> None:
    waiting = False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            wire.check_cancelled()
        if not waiting:
            wire.emit("setup", verb="note", arg="lock", text="another setup of this pod is at work; waiting for it")
            waiting = True
        time.sleep(0.1)


def _listen(wire: Wire, script: subprocess.Popen[bytes], mark: str, log_path: str) -> dict[str, Any]:
    facts: dict[str, list[str]] = collections.defaultdict(list)
    failure, step, tail = "", "", collections.deque[str](maxlen=TAIL_LINES)
    with open(log_path, "wb", buffering=0) as log:
        for line in _lines(wire, script):
            if not line.startswith(mark + "\t"):
                tail.append(line)
                _note(log, wire.secrets.hide(line))
                wire.emit("log", text=line + "\n")
                continue
            _, verb, arg, text = [*line.split("\t", 3), "", "", ""][:4]
            _note(log, "== %s %s %s" % (verb, arg, wire.secrets.hide(text)))
            if verb == "fact":
                facts[arg].append(text)
            else:
                wire.emit("setup", verb=verb, arg=arg, text=text)
            if verb == "step":
                step = arg
                tail.clear()
            if verb == "fail":
                step, failure = arg, text
    if script.wait():
        process.kill_group(script.pid)
        message = failure or _ending(script.returncode)
        raise PodError("setup_failed", message, step=step, tail=list(tail))
    return dict(facts)


def _note(log: IO[bytes], line: str) -> None:
    """Add a line to the log of the setup; a full disk costs the log, not the words of the step that fails."""
    with contextlib.suppress(OSError):
        log.write(line.encode("utf-8", "replace") + b"\n")


def _ending(code: int) -> str:
    if code < 0:
        return "the script was killed (%s) -- run setup again to go on from there" % signal.Signals(-code).name
    return "pod_setup.sh ended with exit code %d" % code


def _lines(wire: Wire, script: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines of the script's output, carriage returns taken as line ends; Cancelled when the user gave up."""
    assert script.stdout is not None
    descriptor, pending = script.stdout.fileno(), b""
    os.set_blocking(descriptor, False)
    while True:
        wire.check_cancelled()
        has_ended = script.poll() is not None
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            if has_ended:  # it was killed, and a child of it still holds the pipe
                break
            select.select([descriptor], [], [], 0.2)
            continue
        if not chunk:
            break
        *complete, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
        pending = pending[:LINE_BYTES]
        yield from (line[:LINE_BYTES].decode("utf-8", "replace") for line in complete if line.strip())
    if pending.strip():
        yield pending.decode("utf-8", "replace")
