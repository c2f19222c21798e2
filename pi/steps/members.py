"""The pods of a model that spans several: their connections, and work on all of them at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pi.errors import InputError, PiError
from pi.pods.types import Pod
from pi.steps import group, where
from pi.steps.group import Asked

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Joined:
    """A pod of several, with its open connection."""

    pod: Pod
    connection: Connection


@contextlib.contextmanager
def joined(head: Pod, connection: Connection, pods: Sequence[Pod]) -> Iterator[list[Joined]]:
    """Yield all pods of a model with their connections, that of the head is open.

    Raises UnreachableError, or InputError if two of them are one machine.
    """
    _require_distinct([head, *pods])
    with contextlib.ExitStack() as stack:
        found = [Joined(head, connection)]
        for pod in pods:
            found.append(Joined(pod, stack.enter_context(where.connected(None, pod, named=True))))
        yield found


def _require_distinct(pods: Sequence[Pod]) -> None:
    names = dict[str, str]()
    for pod in pods:
        if pod.machine and names.setdefault(pod.machine, pod.name) != pod.name:
            text = f"{names[pod.machine]} and {pod.name} are the same machine"
            raise InputError("span-same-machine", text, "name each machine once in --across")


def each(members: Sequence[Joined], work: Callable[[Joined], Answer]) -> list[Asked[Answer]]:
    """Return what a function returns for each pod, all at the same time, or its error."""
    by_name = {member.pod.name: member for member in members}

    def one(pod: Pod) -> Asked[Answer]:
        try:
            return Asked(pod, work(by_name[pod.name]))
        except PiError as error:
            return Asked(pod, error=error)

    return group.at_once([member.pod for member in members], one)


def all_of(members: Sequence[Joined], work: Callable[[Joined], Answer]) -> list[Answer]:
    """Return what a function returns for each pod, all at the same time. Raises the first error, with its pod."""
    asked = each(members, work)
    for one in asked:
        if one.error:
            one.error.message = f"{one.pod.name}: {one.error.message}"
            raise one.error
    return [one.answer for one in asked if one.answer is not None]
