"""The state of each model in words, as `pi list` prints it."""

from __future__ import annotations

import time

from pi import addresses, screen
from pi.calls.status import Found, Status, Unrecorded
from pi.pods.types import Deployment, Pod
from pi.steps.reconcile import ended_by_reboot, gone_from
from pi.text import one_line

HEADERS = ("NAME", "MODEL", "GPU", "PORT", "CONTEXT", "STATE", "URL")

Row = tuple[object, ...]


def rows(pod: Pod, status: Status, host: str) -> list[Row]:
    """Return a row for each model that the pod or pods.json knows; `host` is the pod's address as seen from here."""
    listed = [_row(found, pod.models.get(found.deployment.name), host, status) for found in status.found]
    listed += [_unrecorded_row(model, pod.models.get(model.name)) for model in status.unrecorded]
    absent = [model for name, model in pod.models.items() if name not in status.names]
    return listed + [
        (model.name, model.model, _gpus(model), model.port, "-", _absent_state(pod, model, status), "")
        for model in absent
    ]


def state_of(pod: Pod, name: str, status: Status) -> str:
    """Describe the state of a model of pods.json."""
    saved = pod.models[name]
    found = next((found for found in status.found if found.deployment.name == name), None)
    if found:
        return _found_state(found, saved, status)
    unrecorded = next((model for model in status.unrecorded if model.name == name), None)
    return _unrecorded_state(unrecorded) if unrecorded else _absent_state(pod, saved, status)


def _row(found: Found, saved: Deployment | None, host: str, status: Status) -> Row:
    model = found.deployment
    url = ""
    if found.state == "running":
        url = "over SSH only" if model.private else addresses.url(host, model.port, status.public)
    state = _found_state(found, saved, status)
    return model.name, model.model, _gpus(model), model.port, found.context or "-", state, url


def _unrecorded_row(model: Unrecorded, saved: Deployment | None) -> Row:
    """Return the row of a model without a valid record, with what the pod or else pods.json knows of it."""
    name = model.model or (saved.model if saved else "-")
    gpus = ",".join(map(str, model.gpus)) or (_gpus(saved) if saved else "-")
    port = model.port or (saved.port if saved else "-")
    return model.name, one_line(name), gpus, port, "-", _unrecorded_state(model), ""


def _unrecorded_state(model: Unrecorded) -> str:
    record = f"its record on the pod is damaged: {one_line(model.problem, 160)}"
    if not model.pids:
        return f"not running; {record}; pi stop {model.name} removes it"
    record = record if model.problem else "the pod has no record of it"
    return f"running (pid {model.pids[0]}), but {record}; pi stop {model.name} stops it"


def _absent_state(pod: Pod, model: Deployment, status: Status) -> str:
    """Describe the state of a model that the pod does not know."""
    if model in gone_from(pod, status):
        return "gone (removed from pods.json)"
    if model in ended_by_reboot(pod, status):
        return _stopped_by_reboot(status)
    return "starting"


def _found_state(found: Found, saved: Deployment | None, status: Status) -> str:
    model = found.deployment
    words: str = found.state
    if found.state == "starting":
        words = _starting(found, saved)
    elif found.state == "crashed":
        words = _crashed(found)
    elif found.state == "unresponsive" and found.cause:
        words += f": {one_line(found.cause, 160)}"
    elif found.state == "rebooted":
        words = _stopped_by_reboot(status)
    if found.left:
        words += f", {_leftovers(found)}, pi stop {model.name} stops it"
    if found.other_processes:
        words += f"; another process uses its port: {', '.join(found.other_processes)}"
    if venv := model.venv:
        words += f" (vLLM {status.extra_venvs.get(venv, 'unknown')}, ~/{venv})"
    return words


def _stopped_by_reboot(status: Status) -> str:
    return f"stopped by a reboot ({screen.ago(status.up_s)})"


def _crashed(found: Found) -> str:
    """Describe a crash, such as "crashed at 14:03, exit 1: CUDA out of memory"; the time is this machine's."""
    words = "crashed"
    if found.ended_s_ago is not None:
        words += f" at {screen.clock(time.time() - found.ended_s_ago)}"
    if found.exit_code is not None:
        words += f", exit {found.exit_code}"
    cause = one_line(found.cause or "", 160)
    return f"{words}: {cause}" if cause else words


def _leftovers(found: Found) -> str:
    """Describe the processes that outlived a server, such as "71.0 GiB still held by pid 456"."""
    pids = ", ".join(map(str, found.left))
    return f"{found.held_mib / 1024:.1f} GiB still held by pid {pids}" if found.held_mib else f"pid {pids} still runs"


def show_last_lines(found: Found) -> None:
    """Print the last lines of a crashed model's log."""
    if found.last_lines:
        screen.say(f"\nlast lines of {found.deployment.name} (for more: pi logs {found.deployment.name}):")
        for line in found.last_lines:
            screen.say(f"  {one_line(line)}")


def _starting(found: Found, saved: Deployment | None) -> str:
    words = f"starting ({found.phase})" if found.phase else "starting"
    if saved and saved.owner and saved.owner.is_gone():
        words += f"; its pi has exited but the pod continues; pi stop {saved.name} stops it"
    return words


def _gpus(model: Deployment) -> str:
    return ",".join(map(str, model.gpus)) or "-"
