"""`pi stop`: stop one model, the only one, or all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.calls.call import progress_to
from pi.calls.stop import stop_models
from pi.door import stopped as stopped_by_door
from pi.fabric_tasks.flags import operand, switch
from pi.fabric_tasks.options import PodsOptions
from pi.fabric_tasks.verb import verb
from pi.pods import changes, state
from pi.pods.types import check_name
from pi.steps import group, reconcile, spending, spread, stop_together, to_stop, where
from pi.steps.group import Asked
from pi.steps.stop_report import show_stopped
from pi.steps.stop_several import stop_several


@dataclass(frozen=True)
class StopOptions(PodsOptions):
    name: str | None = operand("[NAME]", "which model; without it the only one, or pi asks which", completes="name")
    yes: bool = switch("without NAME: stop all models of the pod; on several pods: do not ask", short="-y")


@verb(StopOptions, examples=("pi stop qwen", "pi stop -y", "pi stop --all-pods -y"))
def stop(c: Any, options: StopOptions) -> None:
    """Stop a model, or all models on the pod with -y, and wait until GPU and port are free."""
    if options.name is not None:
        check_name(options.name, "model")
    chosen = where.several(c, options.pod, options.all_pods)
    if len(chosen.pods) > 1:
        return _stop_several(c, chosen, options)
    pod = chosen.pods[0]
    known = pod.models.get(options.name or "")
    if known and known.span and stop_together.stop_everywhere(c, pod, known.name, known.span):
        return None
    with where.connected(c, pod, named=chosen.is_named) as connection:
        name = options.name or (None if options.yes else to_stop.chosen(pod, connection))
        with changes.change("stop", f"{pod.name}/{name or '*'}"), screen.progress() as line:
            found = stop_models(
                connection,
                [name] if name else [],
                progress_to(line.show),
            )
            if name and found[0].found == "nothing" and name not in pod.models:
                if stopped_by_door.forget(pod.name, name):
                    return screen.say(f"{name} is stopped already; the door does not start it any more")
                raise where.unknown_model(name, pod)
    for stopped in found:
        show_stopped(stopped)
    with where.saving("the stopped models are still in pods.json", "pi list removes them"):
        reconcile.forget(pod, ({name} if name else set(pod.models)) | {stopped.name for stopped in found})
    failed = stop_together.stop_rest(c, [Asked(pod, found)])
    if name and (others := spread.others_with(state.load(), pod, name)):
        spread.note_left(name, others)
    if not found:
        screen.say(f"nothing runs on {pod.name}")
    spread.unlink(c, {pod.name: {each.name for each in found}})
    spending.note_empty([pod.name])
    group.raise_failed(failed)
    return None


def _stop_several(c: Any, chosen: where.Chosen, options: StopOptions) -> None:
    stopped = stop_several(c, chosen, options.name, options.yes)
    for each in stopped:
        for one in each.answer or ():
            show_stopped(one, f"{each.pod.name}: ")
    spread.unlink(c, {each.pod.name: {one.name for one in each.answer or ()} for each in stopped})
    if not stopped:
        screen.say(
            f"{f'no model {options.name!r}' if options.name else 'no model'} runs on these {len(chosen.pods)} pods"
        )
    failed = stop_together.stop_rest(c, stopped)
    spending.note_empty(each.pod.name for each in stopped if each.answer)
    group.raise_failed([*stopped, *failed], len(chosen.pods) + len(failed))
