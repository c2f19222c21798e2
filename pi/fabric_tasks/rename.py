"""`pi pods rename`: another name for a pod."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.door import stopped
from pi.errors import InputError
from pi.fabric_tasks.flags import Options, operand
from pi.fabric_tasks.verb import verb
from pi.pods import changes, state
from pi.pods.types import State, check_name
from pi.steps import tunnels


@dataclass(frozen=True)
class RenameOptions(Options):
    old: str = operand("OLD", "which pod", required=True, completes="pod")
    new: str = operand("NEW", "its new name", required=True)


@verb(RenameOptions, examples=("pi pods rename dc1 berlin",))
def rename(c: Any, options: RenameOptions) -> None:
    """Give a pod another name in pods.json; nothing on the pod changes."""
    check_name(options.new, "pod")
    state.change(lambda before: _renamed(before, options.old, options.new))
    changes.note("rename", f"{options.old} to {options.new}")
    stopped.rename_pod(options.old, options.new)
    for tunnel in tunnels.leave(options.old):
        screen.note(f"closed the tunnel to {tunnel.model}; open it again: pi tunnel {tunnel.model} -p {options.new}")
    screen.say(f"{options.old} is called {options.new} now")


def _renamed(before: State, old: str, new: str) -> State:
    pod = before.pod(old)
    if new in before.pods:
        raise InputError(
            "pod-name-taken",
            f"{new!r} is already the name of a pod ({before.pods[new].ssh})",
            f"choose another name for {pod.name}, or: pi pods remove {new}",
        )
    return before.with_name(old, new)
