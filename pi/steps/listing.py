"""`pi list` of one pod or several, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pi import screen
from pi.pods import gpus, state
from pi.pods.gpus import Gpu
from pi.pods.spans import with_own_names
from pi.pods.types import Pod
from pi.steps import spending, states
from pi.steps.group import Asked, error_json
from pi.steps.states import Listed

if TYPE_CHECKING:
    from pi.calls.status import Status
    from pi.ssh.connection import Connection
    from pi.steps.json_shapes import GpuJson, ListJson, PodStatusJson


@dataclass(frozen=True)
class Seen:
    """What a pod answered, and its address as seen from here."""

    status: Status
    host: str


def prepare() -> Callable[..., Status]:
    """Import what `see` needs, and return it; a verb does that while `ssh` connects."""
    from pi.calls.status import read_status  # noqa: PLC0415

    return read_status


def see(pod: Pod, connection: Connection) -> Seen:
    """Ask a pod for its state, and import what shows it while the pod works."""
    status = prepare()(connection, screen.prepare_tables)
    if any(found.deployment.span for found in status.found):
        saved = state.load()
        found = (replace(each, deployment=with_own_names(saved, pod.name, each.deployment)) for each in status.found)
        status = replace(status, found=tuple(found))
    return Seen(status, connection.host)


def _with_ranks(listed: list[tuple[Pod, Listed]]) -> list[tuple[Pod, Listed]]:
    """Return models with the other parts of each one over several pods after its head."""
    heads = [model.model.span for _, model in listed if model.model.span and not model.model.rank]
    groups: dict[str, list[tuple[Pod, Listed]]] = {span.group: [] for span in heads}
    rest = []
    for pod, model in listed:
        span = model.model.span
        if span and span.rank and span.group in groups:
            groups[span.group].append((pod, model))
        else:
            rest.append((pod, model))
    found = []
    for pod, model in rest:
        own = [] if model.model.span is None else groups.get(model.model.span.group, [])
        own.sort(key=lambda part: part[1].model.rank)
        marks = ["├ "] * (len(own) - 1) + ["└ "]
        found += [(pod, model), *((at, replace(part, mark=mark)) for mark, (at, part) in zip(marks, own, strict=False))]
    return found


DoorStops = Callable[[str, str], "int | None"]
"""Returns after how many seconds without requests the door stops a model of a pod, if it can start it again."""


def _never(pod: str, model: str) -> None:
    return None


def lines(asked: Sequence[Asked[Seen]], door_stops: DoorStops = _never) -> list[str]:
    """Return the models of pods that answered: a table, then sentences and last log lines."""
    several = len(asked) > 1
    listed = [
        (each.pod, model) for each in asked if each.answer for model in _listed(each.pod, each.answer, door_stops)
    ]
    listed = _with_ranks(listed)
    if not listed:
        names = ", ".join(each.pod.name for each in asked if each.answer)
        return [f"no models on {names}; start one: pi start MODEL --name NAME"] if names else []
    rows = [((pod.name,) if several else ()) + model.row() for pod, model in listed]
    headers = (("POD",) if several else ()) + states.HEADERS
    text = [
        screen.table_text(
            rows, headers, shrink="MODEL", below="URL", labels=1 + several, colours={"STATE": states.COLOURS}
        )
    ]
    text += [
        screen.printable(f"  {f'{pod.name}/' if several else ''}{model.model.name}: {model.sentence}")
        for pod, model in listed
        if model.sentence != model.state
    ]
    text += [f"  {each.pod.name}: {_summary(each.pod, each.answer.status)}" for each in asked if each.answer]
    return text + [line for pod, model in listed if model.found for line in states.last_lines(pod, model.found)]


def warnings(pod: Pod, status: Status) -> list[str]:
    """Return what is wrong with the pod itself."""
    silent = gpus.is_silent(status.unread_gpus) and pod.gpus
    found = [f"cannot read the GPUs: {status.unread_gpus[0]}"] if silent else []
    found += gpus.lost(pod.gpus, status.gpus, status.unread_gpus)
    if status.full:
        found.append(f"the pod's disk is full ({status.full}); logs and starts fail until you free space")
    return found + ([f"cannot reach the models' storage: {status.storage}"] if status.storage else [])


def _summary(pod: Pod, status: Status) -> str:
    """Describe a pod, such as "up 3 h; 55.9 of 159.2 GB of GPU memory in use; 4.98 since setup (2.49 per hour)"."""
    up = f"up {screen.age(status.up_s)}"
    total = sum(gpu.memory_mib for gpu in status.gpus) / 1024
    used = sum(gpu.used_mib for gpu in status.gpus) / 1024
    memory = f"; {used:.1f} of {total:.1f} GB of GPU memory in use" if total else ""
    return f"{up}{memory}{spending.spent(pod)}"


def _listed(pod: Pod, seen: Seen, door_stops: DoorStops) -> list[Listed]:
    """Return the models of a pod, each with the time after which the door stops it."""
    found = []
    for each in states.listed(pod, seen.status, seen.host):
        saved = pod.models.get(each.model.name)
        can_start = bool(each.model.options or (saved and saved.options))
        stops = door_stops(pod.name, each.model.name) if each.state == "running" and can_start else None
        found.append(each.stopped_by_door(stops) if stops else each)
    return found


def as_json(asked: Sequence[Asked[Seen]], door_stops: DoorStops = _never) -> ListJson:
    return {"pods": [_pod_json(each, door_stops) for each in asked]}


def _pod_json(asked: Asked[Seen], door_stops: DoorStops) -> PodStatusJson:
    pod, seen = asked.pod, asked.answer
    price, cost = spending.cost(pod)
    return {
        "pod": pod.name,
        "error": error_json(asked.error),
        "host": seen.host if seen else None,
        "up_seconds": int(seen.status.up_s) if seen else None,
        "vllm_version": seen.status.vllm_version if seen else None,
        "price_per_hour": price,
        "cost": cost,
        "gpus": [gpu_json(gpu, gpu.used_mib) for gpu in seen.status.gpus] if seen else [],
        "warnings": warnings(pod, seen.status) if seen else [],
        "models": [model.as_json() for model in _listed(pod, seen, door_stops)] if seen else [],
    }


def gpu_json(gpu: Gpu, used_mib: int | None) -> GpuJson:
    return {"index": gpu.id, "name": gpu.name, "memory_mib": gpu.memory_mib, "used_mib": used_mib}
