"""`pi stop` on several pods: list what it stops, ask, and stop all at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pi import screen
from pi.calls.stop import Stopped, stop_models
from pi.errors import InputError
from pi.pods import changes
from pi.pods.types import Pod
from pi.steps import consent, group, reconcile, where
from pi.steps.group import Asked
from pi.steps.to_stop import running
from pi.text import count

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def stop_several(c: Any, chosen: where.Chosen, name: str | None, yes: bool) -> list[Asked[tuple[Stopped, ...]]]:
    """Stop a model, or all models, on each pod. Returns what was stopped on those with such a model, or their error.

    Raises InputError, before anything is stopped, if the user does not agree.
    """
    seen = group.ask(c, chosen, lambda pod, connection: _chosen(connection, name))
    found = {each.pod.name: each.answer for each in seen if each.answer}
    failed: list[Asked[tuple[Stopped, ...]]] = [Asked(each.pod, error=each.error) for each in seen if each.error]
    if not found:
        return failed
    if not yes:
        _require_consent(found)

    def stop(pod: Pod, connection: Connection) -> tuple[Stopped, ...]:
        return stop_models(connection, found[pod.name], lambda event: None)

    pods = tuple(pod for pod in chosen.pods if pod.name in found)
    stopped = group.ask(c, where.Chosen(pods, chosen.is_named), stop)
    for each in stopped:
        changes.note("stop", f"{each.pod.name}/{name or '*'}", f"failed: {each.error.id}" if each.error else "ok")
        if each.answer is not None:
            reconcile.forget(each.pod, {one.name for one in each.answer})
    return stopped + failed


def _chosen(connection: Connection, name: str | None) -> list[str]:
    return [each for each in running(connection) if name in (None, each)]


def _require_consent(found: dict[str, list[str]]) -> None:
    for pod, names in found.items():
        screen.note(f"  {pod}: {', '.join(names)}")
    models, pods = count(sum(map(len, found.values())), "model"), count(len(found), "pod")
    consent.require(
        f"stop {models} on {pods}?",
        InputError("stop-unconfirmed", f"this stops {models} on {pods}", "to agree, add -y"),
        InputError("stop-unconfirmed", "stopped nothing: you did not agree"),
    )
