"""Carry out what `pi up` and `pi down` have planned; a failure of one model does not hold up the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.errors import Interrupted, OutputError, PiError, RemoteError
from pi.pods import state
from pi.pods.types import Pod
from pi.steps import group, listing, reconcile, replicas, restarting, spread, where
from pi.steps.declared import Declared, Failed, Step
from pi.steps.group import Asked
from pi.steps.listing import Seen
from pi.text import count

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


def see(c: Any, models: Sequence[Declared]) -> tuple[dict[str, Asked[Seen]], list[Failed]]:
    """Ask the pods of these models what runs. Returns their answers, and the models of pods without one."""
    saved = state.load()
    pods = tuple(saved.pod(name) for name in dict.fromkeys(model.pod for model in models))
    asked = {each.pod.name: each for each in group.ask(c, where.Chosen(pods, True), listing.see)}
    for each in asked.values():
        if each.answer:
            reconcile.reconcile(each.pod, each.answer.status)
    failed = [Failed(model, error) for model in models if (error := asked[model.pod].error)]
    return asked, failed


def bring_up(c: Any, steps: Sequence[Step], key: str) -> list[Failed]:
    """Start and restart models, one after the other. Returns those that failed."""

    def work(step: Step, pod: Pod, connection: Connection) -> None:
        wanted = step.model.start
        before = spread.others_with(state.load(), pod, step.model.name)
        if step.kind == "restart":
            restarting.require_plan(pod, connection, wanted)
            restarting.restart(pod, connection, wanted, key)
        else:
            replicas.start(pod, connection, wanted, key)
        now = wanted.across.pods if wanted.across else ()
        spread.note_left(step.model.name, [each for each in before if each not in now])

    return _each(c, [step for step in steps if step.kind in ("start", "restart")], work)


def take_down(c: Any, steps: Sequence[Step]) -> list[Failed]:
    """Stop models, one after the other. Returns those that did not end."""
    stopped = dict[str, set[str]]()

    def work(step: Step, pod: Pod, connection: Connection) -> None:
        restarting.stop(pod, connection, step.model.name)
        stopped.setdefault(pod.name, set()).add(step.model.name)

    failed = _each(c, steps, work)
    spread.unlink(c, stopped)
    return failed


def _each(c: Any, steps: Sequence[Step], work: Callable[[Step, Pod, Connection], None]) -> list[Failed]:
    failed = []
    for step in steps:
        try:
            with where.connected(c, state.load().pod(step.model.pod), named=True) as connection:
                work(step, state.load().pod(step.model.pod), connection)
        except (Interrupted, OutputError):
            raise
        except PiError as error:
            screen.note(error.render())
            failed.append(Failed(step.model, error))
    return failed


def raise_failed(failed: Sequence[Failed], models: int, did: str) -> None:
    """Raise RemoteError with the names of the models that failed, if any did; their errors are printed."""
    if failed:
        names = ", ".join(each.model.place for each in failed)
        raise RemoteError("models-failed", f"{len(failed)} of {count(models, 'model')} did not {did}: {names}")
