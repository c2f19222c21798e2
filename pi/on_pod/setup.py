"""`pods setup` on the pod: write pi's files, run pod_setup.sh, and send its steps as they happen."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import subprocess
import time
from typing import IO, Callable, Iterator, cast, get_args

from pi.on_pod import audit, check, lock, machine, process, reading, records, redact, writing
from pi.on_pod.events import StepVerb
from pi.on_pod.pace import paced
from pi.on_pod.shapes import SetupAnswer, SetupFacts, SetupRequest
from pi.on_pod.traffic import Traffic
from pi.on_pod.wire import Cancelled, PodError, Wire

TAIL_LINES = 25

ANSWER_S = 60
"""Time for pi's decision; pi notices a lost connection after 20 s, and reconnects for 15 s and more."""

LINE_BYTES = 16 * 1024
"""Bytes that pi keeps of one line of output."""


@audit.logged("setup")
def setup(wire: Wire, request: SetupRequest) -> SetupAnswer:
    """Run the setup script. Returns its facts, and the identity of machine and boot.

    pi gets the facts of the machine first, and decides whether to go on. The setup survives a lost connection.
    A second call waits for the first.
    """
    wire.hide(redact.in_environment_file(request["files"]["env.sh"]))
    facts = check.patiently(wire, request["check"])
    if wire.ask({"event": "checked", "facts": facts}, paced(ANSWER_S)) is None:
        raise PodError("lost", "pi did not answer")
    folder = os.path.join(records.HOME, "setup")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with lock.opened("setup/lock") as descriptor:
        _take(wire, descriptor)
        kept = _kept_token() if request["keeps_token"] else ""
        _write_files({**request["files"], "env.sh": request["files"]["env.sh"] + kept})
        machine.give()
        script = subprocess.Popen(
            ["bash", os.path.join(folder, "pod_setup.sh")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=os.path.expanduser("~"),
            env={
                **_overlaid(request["environment"]),
                "PI_INSTANCE": request["environment"]["PI_MARK"],
                "PI_DEVICE": "cuda" if facts["gpus"]["text"].strip() else "cpu",
                "PI_CUDA": facts["cuda"] or "",
            },
        )
        try:
            found = _listen(wire, script, request["environment"]["PI_MARK"], os.path.join(folder, "setup.log"))
            return {"facts": found, "boot": process.boot(), "machine": machine.identity()}
        except Cancelled:
            living = lambda: process.members(script.pid, request["environment"]["PI_MARK"])  # noqa: E731
            process.end(wire.progress, script.pid, living, 5)
            raise


def _overlaid(sent: dict[str, str]) -> dict[str, str]:
    """Return the pod's environment with pi's settings; the pod's own PIP_* and UV_* win."""
    own = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_"))}
    return {**os.environ, **sent, **own}


def _kept_token() -> str:
    """Return the line of the pod's env.sh that exports HF_TOKEN; empty if it has none."""
    lines = reading.text(os.path.join(records.HOME, "env.sh")).splitlines()
    return next((line + "\n" for line in lines if line.startswith("export HF_TOKEN=")), "")


def _write_files(files: dict[str, str]) -> None:
    for name, text in files.items():
        path = os.path.join(records.HOME, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        writing.replace(path, text)


def _take(wire: Wire, descriptor: int) -> None:
    """Lock the setup of this pod. Waits for another setup, and reports whose it is."""
    current = ""
    while not lock.take(wire, descriptor):
        wire.check_cancelled()
        found = lock.holder(descriptor).rstrip(",")
        if found != current:
            text = "waiting for another setup of this pod (%s)" % found
            wire.emit({"event": "step", "verb": "note", "step": "lock", "text": text})
            current = found
        time.sleep(0.1)


def _listen(wire: Wire, script: subprocess.Popen[bytes], mark: str, log_path: str) -> SetupFacts:
    facts: dict[str, list[str]] = collections.defaultdict(list)
    tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
    failure, step, traffic = "", "", Traffic()

    def tick() -> None:
        wire.check_cancelled()
        download = traffic.event()
        if download:
            wire.emit(download)

    with os.fdopen(writing.fresh(log_path), "wb", buffering=0) as log:
        for line in _lines(script, tick):
            if not line.startswith(mark + "\t"):
                tail.append(line)
                traffic.read(line)
                hidden = wire.secrets.hide(line)
                _note(log, hidden)
                wire.log(hidden + "\n")
                continue
            _, verb, arg, text = [*line.split("\t", 3), "", "", ""][:4]
            _note(log, "== %s %s %s" % (verb, arg, wire.secrets.hide(text)))
            if verb == "fact":
                facts[arg].append(text)
            elif verb in get_args(StepVerb):
                wire.emit({"event": "step", "verb": cast(StepVerb, verb), "step": arg, "text": text})
            if verb == "step":
                step = arg
                tail.clear()
                traffic.begin()
            if verb == "fail":
                step, failure = arg, text
    if script.wait():
        process.kill_group(script.pid)
        message = failure or _ending(script.returncode)
        raise PodError("setup_failed", message, step=step, tail=list(tail))
    return cast(SetupFacts, dict(facts))


def _note(log: IO[bytes], line: str) -> None:
    """Add a line to the log of the setup. A full disk does not stop the setup."""
    with contextlib.suppress(OSError):
        log.write(line.encode("utf-8", "replace") + b"\n")


def _ending(code: int) -> str:
    if code < 0:
        return "the script was killed (%s) -- run setup again to continue" % signal.Signals(-code).name
    return "pod_setup.sh ended with exit code %d" % code


def _lines(script: subprocess.Popen[bytes], tick: Callable[[], None]) -> Iterator[str]:
    """Yield the lines of the script's output; a carriage return ends a line too. Calls `tick` all the time."""
    assert script.stdout is not None
    descriptor, pending = script.stdout.fileno(), b""
    os.set_blocking(descriptor, False)
    while True:
        tick()
        has_ended = script.poll() is not None
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            if has_ended:  # it was killed, and a child still has the pipe open
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
