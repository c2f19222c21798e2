"""Have the pod's own vLLM read its arguments before anything is downloaded."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from typing import Any

from pi.on_pod import process
from pi.on_pod.pace import paced
from pi.on_pod.shapes import ArgumentCheck
from pi.on_pod.wire import PodError, Wire

PATIENCE_S = 180
"""Importing vLLM takes seconds, and minutes from slow storage. After this time, the start continues unchecked."""

POLL_S = 0.1


def check(wire: Wire, venv: str, instance: str, asked: ArgumentCheck) -> None:
    """Raise PodError if vLLM rejects the arguments. A vLLM that gives no verdict rejects nothing.

    `venv` is its folder in the home; `instance` marks the process that reads.
    """
    wire.progress("checking the arguments with the pod's vLLM")
    verdict = _verdict(_output(wire, venv, instance, asked))
    for name in _texts(verdict.get("unknown")):
        wire.emit({"event": "note", "text": "this vLLM does not read the variable %s" % name})
    objection, near = verdict.get("objection"), verdict.get("near")
    if isinstance(objection, str) and objection:
        meant = " (did you mean %s?)" % near if isinstance(near, str) else ""
        raise PodError("bad_arguments", "vLLM rejects the arguments: %s%s" % (objection, meant))


def _output(wire: Wire, venv: str, instance: str, asked: ArgumentCheck) -> str:
    """Return what the program printed; empty if it was not done in time."""
    python = os.path.expanduser("~/%s/bin/python" % venv)
    leave = '. ~/.pi/env.sh; unset HF_TOKEN HUGGING_FACE_HUB_TOKEN PI_API_KEY; exec "$@"'
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps({"words": asked["words"], "variables": asked["variables"]}).encode())
        given.seek(0)
        reader = subprocess.Popen(
            ["bash", "-c", leave, "pi-arguments", python, "-c", asked["program"]],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=os.path.expanduser("~"),
            env=dict(os.environ, **asked["environment"], PI_INSTANCE=instance),
        )
    deadline = time.monotonic() + paced(PATIENCE_S)
    try:
        while time.monotonic() < deadline:
            wire.check_cancelled()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return reader.communicate(timeout=POLL_S)[0].decode("utf-8", "replace")
        return ""
    finally:
        _end(wire, reader, instance)


def _end(wire: Wire, reader: subprocess.Popen[bytes], instance: str) -> None:
    if reader.poll() is None:
        process.end(wire.progress, reader.pid, lambda: process.members(reader.pid, instance), 1)
        reader.wait()


def _verdict(output: str) -> dict[str, Any]:
    """Return the last line of the program as JSON; empty if it did not come so far."""
    try:
        verdict = json.loads(output.strip().rpartition("\n")[2])
    except ValueError:
        return {}
    return verdict if isinstance(verdict, dict) else {}


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
