"""`pi ssh`: a command on a pod, or on several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.errors import RemoteError
from pi.fabric_tasks.flags import operand
from pi.fabric_tasks.options import PodsOptions
from pi.fabric_tasks.verb import verb
from pi.steps import group, handing_over, where
from pi.steps.group import Asked
from pi.steps.handing_over import Ran


@dataclass(frozen=True)
class SshOptions(PodsOptions):
    command: tuple[str, ...] = operand(
        "-- COMMAND...", "the command; a single word is a line for the pod's shell", required=True, takes_rest=True
    )


@verb(
    SshOptions,
    name="ssh",
    examples=("pi ssh -- nvidia-smi -L", "pi ssh -p dc1 -- 'df -h | tail -n 3'", "pi ssh --all-pods -- uptime"),
)
def ssh(c: Any, options: SshOptions) -> None:
    """Run a command on a pod, with its exit code; on several pods, exit code 1 if it fails on any."""
    chosen, line = where.several(c, options.pod, options.all_pods), handing_over.command_line(options.command)
    if len(chosen.pods) == 1:
        with where.connected(c, chosen.pods[0], named=chosen.is_named) as connection:
            handing_over.become(connection.words(line, terminal=handing_over.has_terminal()))
    asked = group.ask(c, chosen, lambda pod, connection: handing_over.run(connection.words(line)))
    group.raise_failed([_shown(each) for each in asked])


def _shown(asked: Asked[Ran]) -> Asked[Ran]:
    """Print a pod's output, each line after its name. Return it as failed if its exit code is not 0."""
    pod, ran = asked.pod, asked.answer
    if ran is None:
        return asked
    for line in ran.out.splitlines():
        screen.say(f"{pod.name}: {line}")
    for line in ran.err.splitlines():
        screen.note(f"{pod.name}: {line}")
    if not ran.code:
        return asked
    return Asked(pod, ran, RemoteError("command-failed", f"{pod.name}: the command exited with status {ran.code}"))
