"""The entry of a pod in pods.json when it is set up."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pi import screen
from pi.calls.setup import SetupFacts
from pi.calls.status import read_status
from pi.errors import InputError, PiError
from pi.pods import state
from pi.pods.types import Pod, State
from pi.steps import moved, on_idle, reconcile, where
from pi.steps.pod_summary import gpu_kinds

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def saved_or_new(name: str, ssh: str | None, then: str | None = None) -> Pod:
    """Return the pod of that name, with the ssh command and the value of `--on-idle` if they are given.

    Raises InputError if a new one has no ssh command.
    """
    saved = state.load().pods.get(name)
    if saved is None and ssh is None:
        raise InputError(
            "new-pod-needs-ssh",
            f"new pod {name} needs an ssh command",
            f'pi pods setup {name} "ssh root@HOST", or: pi pods setup {name} local',
        )
    if saved is None or (saved.is_unfinished and ssh not in (None, saved.ssh)):
        saved = Pod(name, str(ssh))
    return replace(saved, ssh=ssh or saved.ssh, on_idle=on_idle.parse(then) if then else saved.on_idle)


def old_address(pod: Pod) -> str | None:
    """Return the saved ssh command of a pod that now has another one, else None."""
    saved = state.load().pods.get(pod.name)
    return saved.ssh if saved and saved.ssh != pod.ssh and not saved.is_unfinished else None


def remember_setup(pod: Pod, facts: SetupFacts, host_key: str, price: float | None) -> Pod:
    """Save what the setup found and return the saved pod; the first pod becomes the active one.

    A price of None keeps the saved one. The time of the first setup stays until another machine replaces the pod.
    """

    def edit(before: State) -> State:
        saved = before.pods.get(pod.name, pod)
        is_replaced = _is_replaced(saved, facts)
        fresh = replace(
            saved,
            ssh=pod.ssh,
            models={} if is_replaced else saved.models,
            price=saved.price if price is None else price,
            on_idle=pod.on_idle,
            set_up_at=int(time.time()) if is_replaced or saved.set_up_at is None else saved.set_up_at,
            gpus=facts.gpus,
            models_path=facts.models_path,
            vllm_version=facts.vllm_version,
            host_key=host_key,
            boot=facts.boot,
            machine=facts.machine,
            extra_venvs=facts.extra_venvs,
        )
        after = before.with_pod(fresh)
        return after if after.active else replace(after, active=pod.name)

    after = state.change(edit)
    twins = [name for name, other in after.pods.items() if other.boot == facts.boot and name != pod.name]
    if twins:
        screen.note(
            f"note: {pod.name} is the same machine as {twins[0]!r} (boot id {facts.boot.partition('/')[0]});"
            " they share models and GPUs"
        )
    on_idle.describe(pod.on_idle, facts.provider, pod.name)
    if after.active != pod.name:
        screen.say(f"{after.active} stays the active pod; to switch: pi pods active {pod.name}")
    return after.pods[pod.name]


def keep_address(pod: Pod, host_key: str) -> None:
    """Save a new pod whose setup did not end, so that its name is enough for the next one. Warns if it cannot."""

    def edit(before: State) -> State:
        saved = before.pods.get(pod.name)
        return before.with_pod(replace(pod, host_key=host_key)) if saved is None or saved.is_unfinished else before

    try:
        state.change(edit)
    except PiError as error:
        screen.note(f"warning: {pod.name} is not saved: {error.message}")


def next_step(pod: Pod) -> str:
    """Say what to type after a setup."""
    elsewhere = where.flag_for(pod.name)
    return f"next: pi models{elsewhere} shows what fits; pi start MODEL --name NAME{elsewhere} starts it"


def _is_replaced(saved: Pod, facts: SetupFacts) -> bool:
    """Return whether another machine was set up under the name of a saved pod, so that its models are elsewhere."""
    return bool(saved.machine and facts.machine) and not moved.is_same(saved, facts.boot, facts.machine)


def adopt_models(connection: Connection, pod: Pod) -> None:
    """Add the models that run on a pod and are not in pods.json."""
    try:
        reconcile.reconcile(pod, read_status(connection))
    except PiError as error:
        screen.note(f"cannot tell which models run there: {error.message}; pi list asks again")


def describe(facts: SetupFacts) -> str:
    """Describe a pod that is set up: GPUs and versions."""
    cards = gpu_kinds(facts.gpus)
    extra_venvs = "".join(f"; vLLM {version} in ~/{folder}" for folder, version in facts.extra_venvs.items())
    return f"GPUs {cards}, vLLM {facts.vllm_version or 'none'}, Python {facts.python or 'unknown'}{extra_venvs}"
