"""`pi pull`: download a model ahead of its start."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.errors import InputError
from pi.fabric_tasks.flags import operand
from pi.fabric_tasks.launch_options import MODEL, LaunchOptions
from pi.fabric_tasks.options import all_pods_switch, pods_flag
from pi.fabric_tasks.verb import verb
from pi.pods.types import Pod
from pi.steps import group, pulling, where
from pi.steps.pull_report import describe

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class PullOptions(LaunchOptions):
    model: str = operand("MODEL", MODEL, required=True, completes="model")
    pod: str | None = pods_flag()
    all_pods: bool = all_pods_switch()


@verb(
    PullOptions,
    examples=(
        "pi pull Qwen/Qwen3-Coder-30B-A3B-Instruct",
        "pi pull zai-org/GLM-4.5-Air --variant fp8",
        "pi pull openai/gpt-oss-20b --pod dc1,dc2",
    ),
)
def pull(c: Any, options: PullOptions) -> None:
    """Download what a start of a model would load, beside whatever runs; repeat it to continue it.

    The plan is that for the idle pod: its checkpoint, its draft model and its adapters.
    """
    request = options.request(options.model, "model")
    if request.model.is_path and not request.adapters:
        raise InputError("pull-path", f"{request.model} is a path: there is nothing to download", "name a model's id")
    chosen = where.several(c, options.pod, options.all_pods)
    is_alone, began = len(chosen.pods) == 1, time.monotonic()

    def fetch(pod: Pod, connection: Connection) -> list[str]:
        pulled = pulling.pull(pod, connection, request, shows_progress=is_alone)
        return [describe(each, pod.name, time.monotonic() - began) for each in pulled]

    asked = group.ask(c, chosen, fetch)
    for each in asked:
        for line in each.answer or ():
            screen.say(line)
    group.raise_failed(asked)
    screen.say(f"start it: pi start {options.model} --name NAME")
