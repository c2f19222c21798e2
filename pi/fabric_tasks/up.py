"""`pi up`: bring up the models that a file declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.errors import InputError
from pi.fabric_tasks import declaration
from pi.fabric_tasks.flags import Options, operand, switch
from pi.fabric_tasks.start_options import describes
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.steps import bringing_up, keys
from pi.steps.declared import Failed, step_of, undeclared
from pi.text import count


@dataclass(frozen=True)
class UpOptions(Options):
    file: str | None = operand("[FILE]", f"what to bring up (default: {declaration.FILE}); see docs/declare.md")
    dry_run: bool = switch("show what would change; nothing changes")


@verb(UpOptions, examples=("pi up", "pi up lab.toml --dry-run"))
def up(c: Any, options: UpOptions) -> None:
    """Bring up the models of pi.toml: start what does not run, restart what runs with other options."""
    models = declaration.read(options.file, state.load().pods)
    key = keys.api_key()
    asked, failed = bringing_up.see(c, models)
    steps = []
    for each in asked.values():
        if each.error:
            screen.note(each.error.render())
        if each.answer:
            steps += [
                step_of(model, each.pod, each.answer.status, describes)
                for model in models
                if model.pod == each.pod.name
            ]
    for step in steps:
        screen.say(f"  {step}")
    for each in asked.values():
        for name in undeclared(models, each.pod, each.answer.status) if each.answer else ():
            screen.say(f"  {'leave':8}{each.pod.name}/{name}: the file does not declare it")
    failed += [Failed(step.model, InputError("up-blocked", step.why)) for step in steps if step.kind == "cannot"]
    if not options.dry_run:
        failed += bringing_up.bring_up(c, steps, key)
    bringing_up.raise_failed(failed, len(models), "come up")
    changes = sum(step.kind != "keep" for step in steps)
    if options.dry_run and not changes:
        screen.say("nothing to do")
    elif options.dry_run:
        screen.say(f"{count(changes, 'change')}; to make them: pi up{f' {options.file}' if options.file else ''}")
    else:
        screen.say(f"{count(len(models), 'model')} up, {changes} changed")
