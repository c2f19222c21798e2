"""The entry of a pod in pods.json when it is set up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pi import screen
from pi.calls.setup import SetupFacts
from pi.calls.status import read_status
from pi.errors import InputError, PiError
from pi.pods import state
from pi.pods.types import Pod, State
from pi.steps import reconcile
from pi.steps.pod_summary import gpu_summary

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def saved_or_new(name: str, ssh: str | None) -> Pod:
    """Return the pod of that name. Raises InputError if a new one has no ssh command, or a saved one another."""
    saved = state.load().pods.get(name)
    if saved is None and ssh is None:
        raise InputError(
            "new-pod-needs-ssh",
            f"new pod {name} needs an ssh command",
            f'pi pods setup {name} "ssh root@HOST", or: pi pods setup {name} local',
        )
    if saved and ssh not in (None, saved.ssh):
        raise InputError(
            "pod-name-taken",
            f"{name!r} is already the name of another pod ({saved.ssh})",
            f"choose another, or: pi pods remove {name}",
        )
    return saved or Pod(name, str(ssh))


def remember_setup(pod: Pod, facts: SetupFacts, host_key: str) -> Pod:
    """Save what the setup found and return the saved pod; the first pod becomes the active one."""

    def edit(before: State) -> State:
        fresh = replace(
            before.pods.get(pod.name, pod),
            gpus=facts.gpus,
            models_path=facts.models_path,
            vllm_version=facts.vllm_version,
            host_key=host_key,
            boot=facts.boot,
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
    if after.active != pod.name:
        screen.say(f"{after.active} stays the active pod; to switch: pi pods active {pod.name}")
    return after.pods[pod.name]


def adopt_models(connection: Connection, pod: Pod) -> None:
    """Add the models that run on a pod and are not in pods.json."""
    try:
        reconcile.reconcile(pod, read_status(connection))
    except PiError as error:
        screen.note(f"cannot tell which models run there: {error.message}; pi list asks again")


def describe(facts: SetupFacts) -> str:
    """Describe a pod that is set up: GPUs and versions. Prints what nvidia-smi said besides."""
    for line in facts.skipped_gpu_lines:
        screen.note(f"ignoring unexpected nvidia-smi output: {line}")
    cards = gpu_summary(Pod("", "", gpus=facts.gpus))
    extra_venvs = "".join(f"; vLLM {version} in ~/{folder}" for folder, version in facts.extra_venvs.items())
    return f"GPUs {cards}, vLLM {facts.vllm_version or 'none'}, Python {facts.python or 'unknown'}{extra_venvs}"
