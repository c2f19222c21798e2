"""A pod at another address: prove that it is the same machine, and keep its entry."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from pi.calls.status import Status, read_status
from pi.errors import HostKeyError, RemoteError
from pi.pods import state
from pi.pods.types import Pod
from pi.ssh import hostkeys
from pi.steps import where

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def follow(connection: Connection, pod: Pod) -> tuple[Pod, Status]:
    """Save the new ssh command of a pod after proof that it leads to the machine of its setup.

    The connection must be a fresh one, because only a fresh one has seen the host key. Returns the saved pod and its
    status. Raises HostKeyError for another machine, UnwrittenError if pods.json cannot be written.
    """
    _check_host_key(connection, pod)
    status = _status_of_same_machine(connection, pod)
    with where.saving(f"{pod.name} is the same machine, but pods.json could not be updated", "run it again"):
        after = state.change(lambda before: before.with_pod(replace(before.pod(pod.name), ssh=pod.ssh)))
    return after.pods[pod.name], status


def is_same(pod: Pod, boot: str, machine: str) -> bool:
    """Return whether these ids are those of the pod's setup. A new boot of the same machine has the same `machine`."""
    return pod.boot == boot != "" or pod.machine == machine != ""


def _check_host_key(connection: Connection, pod: Pod) -> None:
    """Compare the host key with that of the setup. `local` has none, and nobody is in between."""
    if not connection.host_key:
        return
    if not pod.host_key:
        raise _unproven(connection, pod, "host key")
    if connection.host_key != pod.host_key:
        raise where.changed_key(pod, hostkeys.not_pinned(connection.host, connection.host_key, pod.host_key))


def _status_of_same_machine(connection: Connection, pod: Pod) -> Status:
    try:
        status = read_status(connection)
    except RemoteError as error:
        if error.id == "no-python":  # a setup leaves one there
            raise _other_machine(connection, pod) from None
        raise
    if is_same(pod, status.boot, status.machine):
        return status
    raise _other_machine(connection, pod) if pod.machine else _unproven(connection, pod, "machine id")


def _other_machine(connection: Connection, pod: Pod) -> HostKeyError:
    return HostKeyError(
        "machine-changed",
        f"pod {pod.name!r}: {connection.host} has the same host key, but it is not the machine of the setup",
        _hint(pod),
    )


def _unproven(connection: Connection, pod: Pod, missing: str) -> HostKeyError:
    return HostKeyError(
        "machine-unproven",
        f"pod {pod.name!r}: pods.json has no {missing}, so pi cannot prove that {connection.host} is the same machine",
        _hint(pod),
    )


def _hint(pod: Pod) -> str:
    ssh = shlex.quote(pod.ssh)
    return (
        f"to set it up as {pod.name}: pi pods setup {pod.name} {ssh} --new-host-key; "
        f"to keep both: pi pods setup OTHER-NAME {ssh}"
    )
