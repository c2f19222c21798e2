"""`pi env`: variables for clients of a model."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from pi import screen, web
from pi.fabric_tasks.flags import operand, switch
from pi.fabric_tasks.options import PodOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.pods.types import check_name
from pi.steps import heads, keys, where
from pi.steps.client_environment import KEYS, variables
from pi.steps.endpoints import base_url


@dataclass(frozen=True)
class EnvOptions(PodOptions):
    name: str = operand("NAME", "which model", required=True, completes="name")
    show_key: bool = switch("write the key itself instead of a reference to PI_API_KEY")
    json: bool = json_switch()


@verb(EnvOptions, examples=('eval "$(pi env qwen)"', "pi env qwen --show-key >.env", "pi env qwen --json"))
def env(c: Any, options: EnvOptions) -> None:
    """Print variables with which OpenAI and Anthropic clients find a model."""
    name = check_name(options.name, "model")
    key = keys.api_key() if options.show_key else None
    pod_name = heads.pod_for(c, options.pod, name)
    pod = where.chosen(c, pod_name)
    url = base_url(c, pod, name, is_named=pod_name is not None)
    if not web.answers(url):
        tunnel = f"pi tunnel {name}{where.flag_for(pod.name)} --background"
        screen.note(f"note: {url} does not answer from here; {tunnel} works anyway, then repeat this")
    values = variables(url, name)
    if options.json:
        found = values | (dict.fromkeys(KEYS, key) if key else {})
        screen.reveal_json({"variables": found})
        return
    for variable, value in values.items():
        screen.say(f"export {variable}={shlex.quote(value)}")
    for variable in KEYS:
        screen.reveal(f"export {variable}={shlex.quote(key)}" if key else f'export {variable}="{keys.reference()}"')
