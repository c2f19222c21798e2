"""`pi pods remove`: remove a pod from pods.json."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.door import stopped
from pi.errors import BusyError, InputError
from pi.fabric_tasks.flags import Options, operand, switch
from pi.fabric_tasks.verb import verb
from pi.pods import changes, state
from pi.pods.types import Pod, State
from pi.ssh import target
from pi.steps import consent, spending, tunnels


@dataclass(frozen=True)
class RemoveOptions(Options):
    name: str = operand("NAME", "which pod", required=True, completes="pod")
    force: bool = switch("remove it even if models run on it; they keep running", short="-y")


@verb(RemoveOptions, examples=("pi pods remove dc1",))
def remove(c: Any, options: RemoveOptions) -> None:
    """Remove a pod from pods.json; nothing on the pod changes."""
    name = options.name
    before = state.load()
    is_agreed = options.force or _agrees(before, name)
    after = state.change(lambda saved: _without(saved, name, is_agreed))
    changes.note("remove", name)
    stopped.forget_pod(name)
    for tunnel in tunnels.leave(name):
        screen.note(f"closed the tunnel to {tunnel.model}")
    pod = before.pod(name)
    screen.say(f"removed {name}; the machine {spending.still_bills(pod)}")
    _show_what_stays(pod)
    if before.active == name:
        hint = f"choose one: pi pods active {next(iter(after.pods))}" if after.pods else "no pods are left"
        screen.say(f"no pod is active now; {hint}")


def _agrees(saved: State, name: str) -> bool:
    """Return whether the user, asked on the terminal, agrees that a pod's models keep running unknown to pi."""
    models = saved.pod(name).models
    if not models or not screen.can_ask():
        return False
    question = f"{name} still has models: {', '.join(models)}; they keep running. Remove {name} from pods.json?"
    return consent.agrees(question)


def _without(saved: State, name: str, is_agreed: bool) -> State:
    """Return the state without a pod. Raises BusyError if it has models, unless the user agreed."""
    pod = saved.pod(name)
    if pod.models and not is_agreed:
        raise BusyError(
            "pod-has-models",
            f"{name} still has models: {', '.join(pod.models)}",
            f"stop them: pi stop -y --pod {name}; or, if the pod is gone: pi pods remove {name} --force;"
            f" either way the machine {spending.BILLING}",
        )
    return saved.without_pod(name)


def _show_what_stays(pod: Pod) -> None:
    venvs = ", ".join(f"~/{folder}" for folder in ("venv", *pod.extra_venvs))
    screen.say(f"on it remain ~/.pi (HF_TOKEN and the key, in private files), ~/.vllm_logs, {venvs} and the models")
    with suppress(InputError):  # the ssh command of a pod to remove may be unusable
        screen.say(f"to delete the secrets: {_command_on(pod, 'rm -f ~/.pi/env.sh ~/.pi/run/*/key')}")


def _command_on(pod: Pod, command: str) -> str:
    """Return what to type to run a command on a pod. Raises InputError if its ssh command is unusable."""
    parsed = target.parse(pod.ssh)
    return shlex.join(["ssh", *parsed.ssh_words(), command]) if isinstance(parsed, target.SshTarget) else command
