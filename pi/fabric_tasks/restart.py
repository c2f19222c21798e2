"""`pi restart`: stop a model and start it with the same options."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.errors import InputError, PiError
from pi.fabric_tasks.flags import operand, words_of
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.start_options import StartOptions, options_of
from pi.fabric_tasks.verb import verb
from pi.pods.types import Pod, check_name
from pi.steps import heads, keys, restarting, where


@dataclass(frozen=True)
class RestartOptions(PodOptions):
    name: str = operand("NAME", "which model", required=True, completes="name")


@verb(RestartOptions, examples=("pi restart qwen", "pi restart qwen -p dc1"))
def restart(c: Any, options: RestartOptions) -> None:
    """Stop a model and start it with the options that it was started with, also after a crash or a reboot."""
    name, key = check_name(options.name, "model"), keys.api_key()
    with where.targeted(c, heads.pod_for(c, options.pod, name)) as (pod, connection):
        again = _kept(pod, name)
        wanted = again.start()
        restarting.require_plan(pod, connection, wanted)
        try:
            restarting.restart(pod, connection, wanted, key)
        except PiError:
            words = shlex.join(["pi", "start", str(again.model), "--name", name, "--pod", pod.name])
            screen.note(f"to start {name} by hand: {words} {shlex.join(words_of_model(again))}".rstrip())
            raise


def words_of_model(options: StartOptions) -> list[str]:
    """Return the flags that describe how a model runs."""
    words = words_of(options)
    return words[words.index("--name") + 2 :]


def _kept(pod: Pod, name: str) -> StartOptions:
    """Return the options that a model was started with. Raises InputError if pods.json does not have them."""
    if name not in pod.models:
        raise where.unknown_model(name, pod)
    flag = where.flag_for(pod.name)
    if endpoint := pod.models[name].replica_of:
        raise InputError(
            "is-replica",
            f"{name} is a replica of {endpoint}",
            f"to replace it: pi stop {name}{flag}; pi scale {endpoint}{flag} NUMBER; "
            f"to restart all: pi restart {endpoint}{flag}",
        )
    table = pod.models[name].options
    if not table:
        model = shlex.quote(pod.models[name].model)
        raise InputError(
            "options-unknown",
            f"pods.json does not have the options of {name}: an older pi started it",
            f"pi stop {name}{flag}; pi start {model} --name {name}{flag}, with its options",
        )
    return options_of(name, table)
