"""pods.json beside what a pod says: reservations, models that started, models that are gone or new."""

from __future__ import annotations

from dataclasses import replace

from pi import screen
from pi.calls.status import Status
from pi.pods import changes, file_format, state
from pi.pods.types import Deployment, Pod, State
from pi.steps import where


def remember(place: Pod, deployment: Deployment) -> None:
    state.change(lambda known: known.with_pod(known.pod(place.name).with_model(deployment)))


def remember_started(place: Pod, model: Deployment) -> None:
    runs = f"{model.name} runs on {place.name} (port {model.port}, pid {model.pid}), but that is not written down"
    way_on = (
        f"pi list writes it down, pi stop {model.name} ends it; by hand, under the models of {place.name}:"
        f"\n  {file_format.entry(model)}"
    )
    with where.noted(runs, way_on):
        remember(place, model)


def forget(place: Pod, names: set[str]) -> None:
    def edit(known: State) -> State:
        pod = known.pods.get(place.name)
        return known.with_pod(pod.without_models(names)) if pod else known

    state.change(edit)


def gone_from(place: Pod, status: Status) -> list[Deployment]:
    """Models of pods.json that the pod proved to be gone.

    A reservation that its owner has not brought to the pod yet is not, nor is what a reboot ended.
    """
    there = {found.deployment.name for found in status.found}
    kept = lost_by_reboot(place, status)
    absent = [model for name, model in place.models.items() if name not in there]
    return [model for model in absent if model not in kept and not _is_on_its_way(model)]


def reconcile(place: Pod, status: Status) -> None:
    """Make pods.json say what the pod proved: forget what is gone, adopt what runs there unknown to it."""
    gone = gone_from(place, status)
    if gone:
        forget(place, {model.name for model in gone})
    for model in gone:
        changes.note("forget", f"{place.name}/{model.name}")
    if place.boot != status.boot:
        state.change(lambda known: known.with_pod(replace(known.pod(place.name), boot=status.boot)))
    for name, found in ((found.deployment.name, found) for found in status.found):
        known = place.models.get(name)
        model = found.deployment
        is_news = known is None or known.status == "starting" or known.instance != model.instance
        if found.state == "running" and is_news:
            remember(place, found.deployment)
            if known is None:
                changes.note("adopt", f"{place.name}/{name}")
                screen.note(f"{name} was started on this pod from elsewhere; pi knows it now")


def _is_on_its_way(model: Deployment) -> bool:
    return model.status == "starting" and model.owner is not None and not model.owner.is_gone()


def lost_by_reboot(place: Pod, status: Status) -> list[Deployment]:
    """Models of pods.json of which the pod has no note any more because it was restarted since."""
    there = {found.deployment.name for found in status.found}
    return [
        model
        for name, model in place.models.items()
        if name not in there and model.boot_id and model.boot_id != status.boot_id
    ]
