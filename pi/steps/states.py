"""The state of each model in words, as `pi list` prints it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from pi import addresses, screen
from pi.pods.types import Deployment, Pod, Span
from pi.steps import where
from pi.steps.reconcile import ended_by_reboot, gone_from
from pi.text import count, one_line

if TYPE_CHECKING:
    from pi.calls.status import Found, GpuMemory, Status, Unrecorded
    from pi.steps.json_shapes import ModelJson

HEADERS = ("NAME", "MODEL", "GPU", "GPU GB", "PORT", "CONTEXT", "STATE", "START", "UP", "IDLE", "URL")

State = Literal["running", "starting", "unresponsive", "crashed", "stopped", "unrecorded", "gone"]
"""What a model does now; "stopped" by a reboot, "unrecorded" if the pod has no valid record of it, "gone" if it
does not know it at all."""

COLOURS: dict[str, str] = {
    "running": "32",
    "starting": "33",
    "unresponsive": "31",
    "crashed": "31",
    "stopped": "33",
    "unrecorded": "31",
    "gone": "2",
}
"""Colour (SGR) of each state on a terminal."""


@dataclass(frozen=True)
class Listed:
    """A model as `pi list` shows it. `sentence` begins with the state and tells more."""

    model: Deployment
    state: State
    sentence: str
    context: int | None = None
    url: str | None = None
    found: Found | None = None
    up_s: float | None = None
    """Seconds since its server was launched; None unless it runs."""
    mark: str = ""
    """What precedes its name in the table: the branch of a tree if it is a replica."""
    door_stops_s: int | None = None
    """After how many seconds without a request the door stops it; None if it does not."""

    @property
    def servers(self) -> Mapping[str, str] | None:
        """The replicas behind it, with HAProxy's states; None for a model without replicas."""
        return self.found.servers if self.found else None

    def stopped_by_door(self, seconds: int) -> Listed:
        """Return the model with the time after which the door stops it."""
        without = "" if self.found and self.found.idle_s else " without a request"
        sentence = f"{self.sentence}; the door stops it after {minutes(seconds)}{without}"
        return replace(self, sentence=sentence, door_stops_s=seconds)

    @property
    def idle_s(self) -> float | None:
        """Seconds since its last request, to the minute; None without one."""
        return self.found.asked_s_ago if self.found and self.up_s is not None else None

    def as_json(self) -> ModelJson:
        model, found = self.model, self.found
        memory = found.gpu_memory if found else None
        return {
            "name": model.name,
            "model": str(model.model),
            "state": self.state,
            "sentence": self.sentence,
            "gpus": list(model.gpus),
            "gpu_memory_mib": memory.mib if memory else None,
            "gpu_memory_source": ("processes" if memory.of_processes else "gpus") if memory else None,
            "port": model.port,
            "context": self.context,
            "url": self.url,
            "private": model.private,
            "api": model.api,
            "adapters": list(model.adapters),
            "up_seconds": _whole(self.up_s),
            "idle_seconds": _whole(self.idle_s),
            "pid": model.pid or None,
            "exit_code": found.exit_code if found else None,
            "cause": found.cause if found else None,
            "ready_after_seconds": found.ready_after_s if found else None,
            "restarts": found.restarts if found else 0,
            "stop_after_idle_s": found.idle_s if found else None,
            "door_stops_after_s": self.door_stops_s,
            "hung_seconds": _whole(found.hung_s) if found else None,
            "on_idle": found.on_idle if found else None,
            "pod_stop": (found.pod_stop or None) if found else None,
            "replica_of": model.replica_of or None,
            "rank": model.span.rank if model.span else None,
            "pods": list(model.span.members) if model.span else None,
            "replicas": None if self.servers is None else dict(self.servers),
        }

    def row(self) -> tuple[str, ...]:
        """Return its cells under HEADERS."""
        model = self.model
        is_hidden = self.state == "running" and model.private and not model.is_part
        url = "over SSH only" if is_hidden else self.url or ""
        context = str(self.context or "-")
        ready_after_s = self.found.ready_after_s if self.found else None
        ages = [screen.age(each) if each is not None else "-" for each in (ready_after_s, self.up_s, self.idle_s)]
        on_gpus = (_gpus(model), _gigabytes(self.found.gpu_memory if self.found else None))
        named = (self.mark + model.name, one_line(model.model))
        port = "-" if model.rank else str(model.port or "-")
        return *named, *on_gpus, port, context, self.state, *ages, url


def listed(pod: Pod, status: Status, host: str) -> list[Listed]:
    """Return each model that the pod or pods.json knows; `host` is the pod's address as seen from here."""
    found = [
        *(_present(pod, found, host, status) for found in status.found),
        *(_unrecorded(pod, model) for model in status.unrecorded),
        *(_absent(pod, model, status) for name, model in pod.models.items() if name not in status.names),
    ]
    return _as_tree(found)


def _as_tree(found: list[Listed]) -> list[Listed]:
    """Return models with the replicas of each one after it, in the order of their numbers."""
    names = {each.model.name for each in found}
    tree = []
    for each in found:
        if each.model.replica_of in names:
            continue
        own = [other for other in found if other.model.replica_of == each.model.name]
        own.sort(key=lambda other: (len(other.model.name), other.model.name))
        marks = ["├ "] * (len(own) - 1) + ["└ "]
        tree += [each, *(replace(other, mark=mark) for other, mark in zip(own, marks, strict=False))]
    return tree


def _present(pod: Pod, found: Found, host: str, status: Status) -> Listed:
    model = found.deployment
    is_public = found.state == "running" and not model.private and not model.is_part
    return Listed(
        model,
        "stopped" if found.state == "rebooted" or found.state == "idle" else found.state,
        _found_state(pod, found, status),
        found.context,
        addresses.url(host, model.port, status.public) if is_public else None,
        found,
        max(0.0, status.up_s - found.launched) if found.state == "running" and found.launched is not None else None,
    )


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _absent(pod: Pod, model: Deployment, status: Status) -> Listed:
    sentence = _absent_state(pod, model, status)
    return Listed(model, cast(State, sentence.partition(" ")[0]), sentence)


def state_of(pod: Pod, name: str, status: Status) -> str:
    """Describe the state of a model of pods.json."""
    found = status.named(name)
    if found:
        return _found_state(pod, found, status)
    unrecorded = next((model for model in status.unrecorded if model.name == name), None)
    return _unrecorded_state(pod, unrecorded) if unrecorded else _absent_state(pod, pod.models[name], status)


def _unrecorded(pod: Pod, found: Unrecorded) -> Listed:
    """Return a model without a valid record, with what the pod or else pods.json knows of it."""
    saved = pod.models.get(found.name)
    model = replace(
        saved or Deployment(found.name, "-", 0, (), 0),
        model=found.model or (saved.model if saved else "-"),
        gpus=found.gpus or (saved.gpus if saved else ()),
        port=found.port or (saved.port if saved else 0),
        pid=next(iter(found.pids), 0),
    )
    return Listed(model, "unrecorded", _unrecorded_state(pod, found))


def _unrecorded_state(pod: Pod, model: Unrecorded) -> str:
    stop = f"pi stop {model.name}{where.flag_for(pod.name)}"
    record = f"its record on the pod is damaged: {one_line(model.problem, 160)}"
    if not model.pids:
        return f"not running; {record}; {stop} removes it"
    record = record if model.problem else "the pod has no record of it"
    return f"running (pid {model.pids[0]}), but {record}; {stop} stops it"


def _absent_state(pod: Pod, model: Deployment, status: Status) -> str:
    """Describe the state of a model that the pod does not know."""
    if model in gone_from(pod, status):
        return "gone (removed from pods.json)"
    if model in ended_by_reboot(pod, status):
        return _stopped_by_reboot(status)
    return "starting"


def _found_state(pod: Pod, found: Found, status: Status) -> str:
    model = found.deployment
    words: str = found.state
    if found.state == "starting":
        words = _starting(pod, found)
    elif found.state == "crashed":
        words = _crashed(found)
    elif found.state == "unresponsive" and found.cause:
        words += f": {one_line(found.cause, 160)}"
    elif found.state == "rebooted":
        words = _stopped_by_reboot(status)
    elif found.state == "idle":
        words = _stopped_idle(pod, found)
    elif found.state == "running" and found.servers is not None:
        words = _serving(model.name, found.servers)
    elif found.state == "running" and model.span:
        words += f"; {_over(model.name, model.span)}"
    if found.state == "running" and found.idle_s:
        words += f"; stops after {minutes(found.idle_s)} without a request{_then(found)}"
    if found.unguarded:
        again = f"pi restart {model.name}{where.flag_for(pod.name)}"
        words += f"; NOT PROTECTED: its firewall rules are gone, others reach its ports; {again}"
    if found.restarts:
        words += f"; restarted {count(found.restarts, 'time')} after a failure"
    if found.left:
        words += f", {_leftovers(found)}, pi stop {model.name}{where.flag_for(pod.name)} stops it"
    if found.other_processes:
        words += f"; another process uses its port: {', '.join(found.other_processes)}"
    if venv := model.venv:
        words += f" (vLLM {status.extra_venvs.get(venv, 'unknown')}, ~/{venv})"
    return words


def _over(name: str, span: Span) -> str:
    """Say which pods serve a model together, such as "over a and b", or what a rank belongs to."""
    if span.rank:
        return f"rank {span.rank} of {name}, whose head is {span.head}"
    return f"over {', '.join(span.members[:-1])} and {span.members[-1]}"


def _serving(name: str, servers: Mapping[str, str]) -> str:
    """Describe an endpoint, such as "running; 2 of 3 replicas serve; q.2 is down; those on dc2 are down"."""
    own = {each: state for each, state in servers.items() if each.startswith(f"{name}.")}
    pods = {each: state for each, state in servers.items() if each not in own}
    serving = [each for each, state in pods.items() if state == "UP"]
    also = f", and those on {', '.join(serving)}" if serving else ""
    words = [f"running; {list(own.values()).count('UP')} of {count(len(own), 'replica')} serve{also}"]
    words += [f"{each} is {_seen(state)}" for each, state in own.items() if state != "UP"]
    words += [f"those on {each} are {_seen(state)}" for each, state in pods.items() if state != "UP"]
    return "; ".join(words)


def _seen(state: str) -> str:
    return SEEN.get(state, one_line(state, 20))


SEEN = {"DOWN": "down", "DRAIN": "draining", "MAINT": "leaving", "gone": "gone"}
"""States of a replica that gets no requests, by HAProxy's words."""


def _stopped_by_reboot(status: Status) -> str:
    return f"stopped by a reboot ({screen.ago(status.up_s)})"


def _stopped_idle(pod: Pod, found: Found) -> str:
    """Describe a model that ended for lack of use, such as "stopped 2 h ago: no request for 30 min; pi restart q"."""
    ended = "" if found.ended_s_ago is None else f" {screen.ago(found.ended_s_ago)}"
    pod_stop = f"; {found.pod_stop}" if found.pod_stop else ""
    again = f"pi restart {found.deployment.name}{where.flag_for(pod.name)}"
    return f"stopped{ended}: no request for {minutes(found.idle_s or 0)}; {again}{pod_stop}"


def _then(found: Found) -> str:
    """Describe what happens to the pod after the end of a model that nobody uses."""
    if not found.on_idle:
        return ""
    return "; then the pod runs your command" if found.on_idle == "command" else "; then the pod stops too"


def minutes(seconds: float) -> str:
    """Format a time in whole minutes, such as "30 min" or "2 h"; a short one in seconds."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.0f} h" if seconds % 3600 == 0 and seconds else f"{seconds / 60:.0f} min"


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
    """Describe the processes that outlived a server, such as "71.0 GB still held by pid 456"."""
    pids = ", ".join(map(str, found.left))
    return f"{found.held_mib / 1024:.1f} GB still held by pid {pids}" if found.held_mib else f"pid {pids} still runs"


def last_lines(pod: Pod, found: Found) -> list[str]:
    """Return the last lines of a crashed model's log, under a title."""
    if not found.last_lines:
        return []
    name = found.deployment.name
    title = f"\nlast lines of {name} (for more: pi logs {name}{where.flag_for(pod.name)}):"
    return [screen.printable(title), *(f"  {one_line(screen.printable(line))}" for line in found.last_lines)]


def _starting(pod: Pod, found: Found) -> str:
    saved = pod.models.get(found.deployment.name)
    words = f"starting ({found.phase})" if found.phase else "starting"
    if saved and saved.owner and saved.owner.is_gone():
        words += f"; its pi has exited but the pod continues; pi stop {saved.name}{where.flag_for(pod.name)} stops it"
    return words


def _gigabytes(memory: GpuMemory | None) -> str:
    """Format GPU memory, such as "70.7", or "<=70.7" if other processes may hold a part of it."""
    return f"{'' if memory.of_processes else '<='}{memory.mib / 1024:.1f}" if memory else "-"


def _gpus(model: Deployment) -> str:
    """List the GPUs, such as "0,2" or "0-7"."""
    first, last = min(model.gpus, default=0), max(model.gpus, default=0)
    if last - first > 1 and sorted(model.gpus) == list(range(first, last + 1)):
        return f"{first}-{last}"
    return ",".join(map(str, model.gpus)) or "-"
