"""`pi move`: to another pod, without losing a request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from pi import screen
from pi.door import background, stopped
from pi.errors import InputError
from pi.fabric_tasks.flags import Options, flag, operand
from pi.fabric_tasks.options import duration_s_of
from pi.fabric_tasks.start_options import options_of
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.pods.types import Pod, State, check_name
from pi.steps import keys, moving, spending, tunnels
from pi.steps.moving import Moving

DRAIN_S = 600


@dataclass(frozen=True)
class MoveOptions(Options):
    name: str = operand("NAME", "which model", required=True, completes="name")
    to: str = operand("POD", "its new pod", required=True, completes="pod")
    from_: str | None = flag("POD", "its present pod, if several have the name", completes="pod")
    drain: str | None = flag("TIME", "how long its last requests may take (default: 10m)")


@verb(MoveOptions, examples=("pi move qwen dc2", "pi move qwen dc2 --from dc1 --drain 2m"))
def move(c: Any, options: MoveOptions) -> None:
    """Start a model on another pod in the same way, then stop it on its present one; pi door loses no request."""
    name, drain_s = check_name(options.name, "model"), duration_s_of(options.drain, "--drain") or DRAIN_S
    key, saved = keys.api_key(), state.load()
    target = saved.pod(options.to)
    source = _source(saved, name, target, options.from_)
    if source is None:
        return screen.say(f"{name} is on {target.name} already")
    if endpoint := source.models[name].replica_of:
        raise InputError("is-replica", f"{name} is a replica of {endpoint}", f"pi move {endpoint} {target.name}")
    if source.models[name].span or "across" in source.models[name].options:
        raise InputError(
            "span-moves", f"{name} is on several pods, and cannot move", "stop it, then start it --across others"
        )
    table = source.models[name].options
    if not table:
        raise InputError(
            "options-unknown",
            f"pods.json does not have the options of {name}: an older pi started it",
            f"start it there by hand, with its options: pi start MODEL --name {name} --pod {target.name}",
        )
    wanted = options_of(name, table).start()
    moving.move(c, Moving(source, target, wanted, key, drain_s, partial(background.requests_of, source.name, name)))
    stopped.forget(source.name, name)
    spending.note_empty([source.name])
    if tunnels.opened_to(source.name, name):
        screen.note(f"the tunnel to {source.name} leads nowhere now; open it again: pi tunnel {name} -p {target.name}")


def _source(saved: State, name: str, target: Pod, given: str | None) -> Pod | None:
    """Return the pod that a model leaves; None if it is on its new pod alone. Raises InputError."""
    among = [saved.pod(given)] if given else list(saved.pods.values())
    others = [pod for pod in among if name in pod.models and pod.name != target.name]
    if len(others) == 1:
        return others[0]
    if others:
        names = ", ".join(pod.name for pod in others)
        raise InputError("move-which", f"several pods have a model {name}: {names}", "say which: --from POD")
    if name in target.models:
        return None
    known = ", ".join(sorted({model for pod in saved.pods.values() for model in pod.models})) or "none"
    raise InputError("unknown-name", f"no model {name!r} on {given or 'any pod'}", f"you have {known}; see: pi list")
