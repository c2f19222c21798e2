"""`pi pods address`: a pod that has moved to another address."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pi import screen
from pi.fabric_tasks.flags import Options, operand
from pi.fabric_tasks.verb import verb
from pi.pods import changes, state
from pi.ssh import target
from pi.steps import moved, reconcile, where


@dataclass(frozen=True)
class AddressOptions(Options):
    name: str = operand("NAME", "which pod", required=True, completes="pod")
    ssh: str = operand('"ssh ..."|local', "its new ssh command", required=True, is_command=True)


@verb(AddressOptions, examples=('pi pods address dc1 "ssh root@203.0.113.9 -p 22022"',))
def address(c: Any, options: AddressOptions) -> None:
    """Save the new address of a pod, if it is the same machine; nothing on the pod changes."""
    pod = replace(state.load().pod(options.name), ssh=target.anchored(options.ssh))
    at = where.label(pod)
    with (
        where.connected(c, pod, named=True, fresh=True) as connection,
        changes.change("address", pod.name),
    ):
        pod, status = moved.follow(connection, pod)
        reconcile.reconcile(pod, status)
    screen.say(f"{pod.name} is at {at} now; it is the same machine, by host key and machine id")
