"""`pi down`: stop the models that a file declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.errors import InputError
from pi.fabric_tasks import declaration
from pi.fabric_tasks.flags import Options, operand, switch
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.steps import bringing_up, consent, spending
from pi.steps.declared import Step, is_on, with_parts
from pi.text import count


@dataclass(frozen=True)
class DownOptions(Options):
    file: str | None = operand("[FILE]", f"what to stop (default: {declaration.FILE})")
    dry_run: bool = switch("show what would stop; nothing changes")
    yes: bool = switch("do not ask", short="-y")


@verb(DownOptions, examples=("pi down --dry-run", "pi down -y"))
def down(c: Any, options: DownOptions) -> None:
    """Stop the models of pi.toml; others run on."""
    saved = state.load().pods
    declared = declaration.read(options.file, saved)
    models = with_parts(declared, saved)
    asked, failed = bringing_up.see(c, models)
    for each in asked.values():
        if each.error:
            screen.note(each.error.render())
    answers = {each.pod.name: each.answer.status for each in asked.values() if each.answer}
    steps = [
        Step(model, "keep", "")
        for model in models
        if (status := answers.get(model.pod)) and is_on(model, status, is_declared=model in declared)
    ]
    for step in steps:
        screen.say(f"  stop {step.model.place}")
    if steps and not options.dry_run:
        if not options.yes:
            _require_consent(len(steps))
        failed += bringing_up.take_down(c, steps)
        spending.note_empty(step.model.pod for step in steps)
    bringing_up.raise_failed(failed, len(models), "stop")
    if not steps:
        screen.say("none of these models is on its pod")


def _require_consent(models: int) -> None:
    consent.require(
        f"stop {count(models, 'model')}?",
        InputError("stop-unconfirmed", f"this stops {count(models, 'model')}", "to agree, add -y"),
        InputError("stop-unconfirmed", "stopped nothing: you did not agree"),
    )
