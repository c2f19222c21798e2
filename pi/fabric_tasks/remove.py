"""`pi pods remove`: forget a pod."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import Any

from pi import screen
from pi.errors import BusyError, InputError
from pi.fabric_tasks.verb import verb
from pi.pods import changes, state
from pi.pods.types import Pod, State
from pi.ssh import target


@verb("name", "NAME [--force]", details={"force": "also when models run on it; they keep running"})
def remove(c: Any, name: str, force: bool = False) -> None:
    """Forget a pod. Only pi's own notes change; nothing on the pod is touched."""

    def edit(known: State) -> State:
        pod = known.pod(name)
        if pod.models and not force:
            raise BusyError(
                f"{name} still has models: {', '.join(pod.models)}",
                f"stop them (pi stop --pod {name}), or, if the pod is gone: pi pods remove {name} --force;"
                " either way the machine bills until you end it at the provider",
            )
        return known.without_pod(name)

    before = state.load()
    left = state.change(edit)
    changes.note("remove", name)
    screen.say(f"{name} is forgotten; the machine itself still runs (and bills) until you end it at the provider")
    venvs = ", ".join(f"~/{folder}" for folder in ("venv", *before.pod(name).beside))
    screen.say(f"on it stay ~/.pi (with HF_TOKEN and the key, in private files), ~/.vllm_logs, {venvs} and the models")
    with suppress(InputError):  # a pod whose ssh command makes no sense can be forgotten too
        screen.say(f"to take the secrets off it: {_run_there(before.pod(name), 'rm -f ~/.pi/env.sh ~/.pi/run/*/key')}")
    if before.active == name:
        way_on = f"choose one: pi pods active {next(iter(left.pods))}" if left.pods else "none is left"
        screen.say(f"no pod is active now; {way_on}")


def _run_there(pod: Pod, command: str) -> str:
    """What to type to run a command on a pod. Raises InputError."""
    place = target.parse(pod.ssh)
    return shlex.join(["ssh", *place.ssh_words(), command]) if isinstance(place, target.SshTarget) else command
