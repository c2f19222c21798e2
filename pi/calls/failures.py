"""Failures that a pod reports, as errors in pi's words."""

from __future__ import annotations

from typing import Any

from pi.calls.events import Event
from pi.errors import BusyError, NotReadyError, PiError, RemoteError, UnprovenError, UnreachableError
from pi.planning.types import VENV
from pi.planning.venvs import is_extra_venv
from pi.text import one_line
from pi.vllm.log import explain


def error_of(event: Event) -> PiError:
    """The failure of a pod in pi's words: the cause from the log where there is one, and the way on."""
    kind, message, detail = event["kind"], event["message"], event["detail"]
    if kind in ("busy", "name_taken"):
        return BusyError(message, "pi list shows what runs; pi stop NAME frees it")
    if kind == "lost":
        return UnreachableError(message)
    if kind == "killed":
        return UnprovenError(message, "pi list shows what is left; run it again to go on")
    if kind in ("exited", "launch_failed"):
        venv = detail.get("venv")
        failure = explain(detail["log"], detail.get("exit"), venv if is_extra_venv(venv) else VENV)
        return NotReadyError(failure.cause, _with_log(failure.hint, detail))
    if kind == "timeout":
        lines = detail["log"].strip().splitlines()
        last = one_line(lines[-1], 300) if lines else "nothing"
        return NotReadyError(
            f"{message}; its log ends with: {last}", _with_log("--timeout SECONDS waits longer", detail)
        )
    if kind == "not_ours":
        return NotReadyError(f"{message}; {detail['name']} is stopped", _with_log(None, detail))
    if kind in ("unkillable", "not_free"):
        return RemoteError(message, f"reboot the pod, or once it is free: pi stop {detail['name']}")
    if kind == "disk_full":
        return RemoteError(
            message, 'free space, or keep models on another disk: pi pods setup NAME "ssh ..." --models-path PATH'
        )
    if kind == "storage":
        return RemoteError(
            message, 'on the pod, as root: umount -l that folder; then mount it again: pi pods setup NAME --mount "..."'
        )
    if kind == "download_failed":
        failure = explain(detail["log"], None)
        return RemoteError(f"the download failed: {failure.cause}", failure.hint)
    if kind == "setup_failed":
        return SetupError(detail["step"], message, detail["tail"])
    if kind == "unexpected":
        where = f"pi's own program failed on the pod ({detail['at']})"
        return UnprovenError(f"{where}: {message}", "please report this; pi list shows what is left")
    return RemoteError(message)


def _with_log(hint: str | None, detail: dict[str, Any]) -> str:
    """The way on, and where vLLM's whole log is."""
    name = detail["name"]
    return (f"{hint}\n  " if hint else "") + f"the whole log: pi logs {name} (~/.vllm_logs/{name}.log on the pod)"


class SetupError(RemoteError):
    """A step of the setup failed; `tail` holds its last lines of output."""

    def __init__(self, step: str, message: str, tail: list[str]) -> None:
        cause, _, way_on = message.partition(" -- ")
        super().__init__(f"setup failed at step {step!r}: {cause}", way_on or "mend it, then run the setup again")
        self.step = step
        self.tail = tail
