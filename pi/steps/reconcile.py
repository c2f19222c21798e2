"""Keep pods.json in step with what a pod reports: models that started, are gone, or are new."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pi import screen
from pi.pods import changes, file_format, state
from pi.pods.types import Deployment, Pod, State
from pi.steps import where

if TYPE_CHECKING:
    from pi.calls.status import Status


def remember(pod: Pod, deployment: Deployment) -> None:
    def edit(before: State) -> State:
        saved = before.pod(pod.name)
        return before.with_pod(saved.with_model(with_kept_options(deployment, saved.models.get(deployment.name))))

    state.change(edit)


def with_kept_options(model: Deployment, saved: Deployment | None) -> Deployment:
    """Return a model with the options of its entry in pods.json, if the pod's answer does not have them."""
    if model.options or saved is None or not (saved.status == "starting" or saved.instance == model.instance):
        return model
    return replace(model, options=saved.options)


def remember_started(pod: Pod, model: Deployment) -> None:
    """Save a model that runs. Raises UnwrittenError, with the entry to add by hand, if pods.json cannot be written."""
    saved = state.load().pods.get(pod.name)
    model = with_kept_options(model, saved.models.get(model.name) if saved else None)
    flag = where.flag_for(pod.name)
    runs = f"{model.name} runs on {pod.name} (port {model.port}, pid {model.pid}), but pods.json could not be updated"
    hint = (
        f"pi list{flag} adds it, pi stop {model.name}{flag} stops it; "
        f"to add it by hand, under the models of {pod.name}:"
        f"\n  {file_format.entry(model)}"
    )
    with where.saving(runs, hint):
        remember(pod, model)


def forget(pod: Pod, names: set[str]) -> None:
    def edit(before: State) -> State:
        saved = before.pods.get(pod.name)
        return before.with_pod(saved.without_models(names)) if saved else before

    state.change(edit)


def gone_from(pod: Pod, status: Status) -> list[Deployment]:
    """Return the models of pods.json that are confirmed gone from the pod.

    A start that has not reached the pod yet does not count as gone, nor does a model that a reboot ended.
    """
    kept = ended_by_reboot(pod, status)
    return [model for model in _absent(pod, status) if model not in kept and not _is_on_its_way(model)]


def ended_by_reboot(pod: Pod, status: Status) -> list[Deployment]:
    """Return the models of pods.json that the pod does not know since its reboot."""
    return [model for model in _absent(pod, status) if model.boot_id and model.boot_id != status.boot_id]


def _absent(pod: Pod, status: Status) -> list[Deployment]:
    return [model for name, model in pod.models.items() if name not in status.names]


def _is_on_its_way(model: Deployment) -> bool:
    return model.status == "starting" and model.owner is not None and not model.owner.is_gone()


def reconcile(pod: Pod, status: Status) -> None:
    """Remove from pods.json what is confirmed gone, and add what runs on the pod."""
    _forget_gone(pod, gone_from(pod, status))
    machine = pod.machine or status.machine
    if (pod.boot, pod.machine) != (status.boot, machine):
        state.change(lambda before: before.with_pod(replace(before.pod(pod.name), boot=status.boot, machine=machine)))
    adopt(pod, [found.deployment for found in status.found if found.state == "running"])


def _forget_gone(pod: Pod, gone: list[Deployment]) -> None:
    if gone:
        forget(pod, {model.name for model in gone})
    for model in gone:
        changes.note("forget", f"{pod.name}/{model.name}")


def adopt(pod: Pod, running: list[Deployment]) -> None:
    """Save running models that pods.json lacks, or has as starting or as an earlier instance, in one change."""
    fresh = [model for model in running if not _is_known(pod.models.get(model.name), model)]
    if not fresh:
        return
    models = {model.name: model for model in fresh}

    def edit(before: State) -> State:
        saved = before.pod(pod.name)
        fresh = {name: with_kept_options(model, saved.models.get(name)) for name, model in models.items()}
        return before.with_pod(replace(saved, models={**saved.models, **fresh}))

    state.change(edit)
    for model in fresh:
        if model.name not in pod.models and not model.is_part:
            changes.note("adopt", f"{pod.name}/{model.name}")
            screen.note(f"{model.name} was started from elsewhere; added it to pods.json")


def _is_known(saved: Deployment | None, model: Deployment) -> bool:
    return (
        saved is not None and saved.status != "starting" and (saved.instance, saved.pid) == (model.instance, model.pid)
    )
