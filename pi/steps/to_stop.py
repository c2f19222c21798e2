"""Find what `pi stop` stops, and choose if the user names no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pi import screen
from pi.calls.status import Found, read_status
from pi.errors import InputError
from pi.pods.types import Pod

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def chosen(pod: Pod, connection: Connection) -> str | None:
    """Return the model that the user chooses on the terminal, or None for all: at most one of them runs.

    Raises InputError if several run and nobody can be asked, or if the user chooses none.
    """
    names = running(connection)
    if len(names) < 2:
        return None
    listed = ", ".join(names)
    if not screen.can_ask():
        raise InputError(
            "stop-which",
            f"{len(names)} models run on {pod.name}: {listed}",
            f"stop one: pi stop NAME --pod {pod.name}; or all: pi stop -y --pod {pod.name}",
        )
    answer = screen.ask(f"which model of {pod.name} should stop: {listed}, or all?")
    if answer == "all" and answer not in names:
        return None
    if answer not in names:
        given = f"{answer!r} is not one of them" if answer else "you chose none"
        raise InputError("stop-none-chosen", f"stopped nothing: {given}", f"pi stop NAME, or all: pi stop -y; {listed}")
    return answer


def running(connection: Connection) -> list[str]:
    """Return the models of a pod that a stop ends, also those without a valid record; replicas with their endpoint."""
    status = read_status(connection)
    living = [found.deployment for found in status.found if _runs(found)]
    names = {model.name for model in living}
    recorded = [model.name for model in living if model.replica_of not in names]
    return recorded + [model.name for model in status.unrecorded if model.pids]


def _runs(found: Found) -> bool:
    """Return whether a stop ends something: the server, a start, or processes that outlived it."""
    return found.state not in ("crashed", "rebooted", "idle") or bool(found.left)
