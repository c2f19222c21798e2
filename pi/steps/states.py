"""The state of each model in words, as `pi list` prints it."""

from __future__ import annotations

import time

from pi import addresses, screen
from pi.calls.status import Found, Status
from pi.pods.types import Deployment, Pod
from pi.steps.reconcile import gone_from, lost_by_reboot
from pi.text import one_line

HEADERS = ("NAME", "MODEL", "GPU", "PORT", "STATE", "URL")

Row = tuple[object, ...]


def rows(place: Pod, status: Status, host: str) -> list[Row]:
    """A row for each model that the pod or pods.json knows; `host` is the pod's address as seen from here."""
    listed = [_row(found, place.models.get(found.deployment.name), host, status) for found in status.found]
    there = {found.deployment.name for found in status.found}
    for name, model in place.models.items():
        if name not in there:
            listed.append((model.name, model.model, _gpus(model), model.port, _missing(place, model, status), ""))
    return listed


def state_of(place: Pod, name: str, status: Status) -> str:
    """What a model that pods.json knows is doing, in words."""
    known = place.models[name]
    found = next((found for found in status.found if found.deployment.name == name), None)
    return _state(found, known, status) if found else _missing(place, known, status)


def _row(found: Found, known: Deployment | None, host: str, status: Status) -> Row:
    model = found.deployment
    url = ""
    if found.state == "running":
        url = "over SSH only" if model.extra.get("private") else addresses.url(host, model.port, status.public)
    return model.name, model.model, _gpus(model), model.port, _state(found, known, status), url


def _missing(place: Pod, model: Deployment, status: Status) -> str:
    """The state of a model that the pod knows nothing of."""
    if model in gone_from(place, status):
        return "gone (forgotten)"
    if model in lost_by_reboot(place, status):
        return _stopped_by_reboot(status)
    return "starting"


def _state(found: Found, known: Deployment | None, status: Status) -> str:
    model = found.deployment
    words = found.state
    if found.state == "starting":
        words = _starting(found, known)
    elif found.state == "crashed":
        words = _crashed(found)
    elif found.state == "unresponsive" and found.cause:
        words += f": {one_line(found.cause, 160)}"
    elif found.state == "rebooted":
        words = _stopped_by_reboot(status)
    if found.left:
        words += f", {_held(found)}, pi stop {model.name} ends it"
    if found.strangers:
        words += f"; {', '.join(found.strangers)} listens on its port too and is not pi's"
    if venv := model.extra.get("venv"):
        words += f" (vLLM {status.beside.get(venv, 'unknown')}, ~/{venv})"
    return words


def _stopped_by_reboot(status: Status) -> str:
    return f"stopped by a reboot ({screen.ago(status.up_s)})"


def _crashed(found: Found) -> str:
    """Such as "crashed at 14:03, exit 1: CUDA out of memory"; the time is this machine's."""
    words = "crashed"
    if found.ended_s_ago is not None:
        words += f" at {screen.clock(time.time() - found.ended_s_ago)}"
    if found.exit_code is not None:
        words += f", exit {found.exit_code}"
    cause = one_line(found.cause or "", 160)
    return f"{words}: {cause}" if cause else words


def _held(found: Found) -> str:
    """What outlived a server: "71.0 GiB still held by pid 456"."""
    pids = ", ".join(map(str, found.left))
    return f"{found.held_mib / 1024:.1f} GiB still held by pid {pids}" if found.held_mib else f"pid {pids} is left"


def show_last_lines(found: Found) -> None:
    """Print how the log of a crashed model ends."""
    if found.last_lines:
        screen.say(f"\nlast lines of {found.deployment.name} (pi logs {found.deployment.name} shows more):")
        for line in found.last_lines:
            screen.say(f"  {one_line(line)}")


def _starting(found: Found, known: Deployment | None) -> str:
    words = f"starting ({found.phase})" if found.phase else "starting"
    if known and known.owner and known.owner.is_gone():
        words += f"; its pi is gone, the pod goes on; pi stop {known.name} ends it"
    return words


def _gpus(model: Deployment) -> str:
    return ",".join(map(str, model.gpus)) or "-"
