"""`pi pods check`: what a machine has, before its setup."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from invoke import Exit

from pi import screen
from pi.calls.check import check
from pi.errors import InputError, RemoteError
from pi.fabric_tasks.flags import Options, flag, operand
from pi.fabric_tasks.json_refusals import json_refusals
from pi.fabric_tasks.options import all_pods_switch, json_switch, pods_flag
from pi.fabric_tasks.verb import verb
from pi.planning.preflight import Findings, MachineFacts, findings
from pi.pods import state
from pi.pods.types import Pod
from pi.setup import mounts
from pi.ssh import target
from pi.steps import check_report, group, where
from pi.steps.group import Asked

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class CheckOptions(Options):
    ssh: str | None = operand(
        '["ssh ..."|local|NAME]', "the machine: its ssh command, `local`, or a pod's name", is_command=True
    )
    pod: str | None = pods_flag("check these pods")
    all_pods: bool = all_pods_switch()
    models_path: str | None = flag("P", "models directory that setup will use")
    json: bool = json_switch()


@verb(
    CheckOptions,
    name="check",
    examples=(
        'pi pods check "ssh root@203.0.113.7 -p 22022"',
        "pi pods check local --json",
        "pi pods check --all-pods",
    ),
)
def check_machine(c: Any, options: CheckOptions) -> None:
    """Check a machine before its setup: what it has and what fits; nothing on it changes."""
    with json_refusals(options.json):
        models_path = mounts.directory(options.models_path, "--models-path") if options.models_path else None
        if options.pod or options.all_pods:
            return _check_pods(c, options, models_path)
        if options.ssh is None:
            hint = 'pi pods check "ssh root@HOST", pi pods check NAME, or --all-pods'
            raise InputError("machine-missing", "which machine?", hint)
        saved = state.load().pods.get(options.ssh)
        pod = saved or Pod("NAME", options.ssh)
        target.parse(pod.ssh)
    if not options.json:
        screen.say(f"checking {where.label(pod)}")
    began = time.monotonic()
    with where.connected(c, pod, named=True, fresh=saved is None) as connection:
        opened_s = time.monotonic() - began
        asked, ran = time.monotonic(), list[float]()
        with screen.progress() as line:
            line.run("  asking the machine", screen.clock_since(began), quiet=True)
            facts = check(connection, os.environ, models_path, lambda event: ran.append(time.monotonic()))
    found = findings(facts)
    if options.json:
        screen.say_json(check_report.as_json(facts, found))
        raise Exit(code=1 if found.stops else 0)
    check_report.show_connection(opened_s, (ran or [asked])[0] - asked)
    check_report.show(facts, found)
    for each in found.stops[1:]:
        screen.note(f"{each.text}; {each.hint}")
    if error := _objection(found):
        raise error
    screen.say(f"ready for: pi pods setup {pod.name} {shlex.quote(pod.ssh)}")


def _objection(found: Findings) -> RemoteError | None:
    """Return the first thing that stops a setup, or None."""
    first = next(iter(found.stops), None)
    return RemoteError("machine-not-ready", f"setup would stop: {first.text}", first.hint) if first else None


def _check_pods(c: Any, options: CheckOptions, models_path: str | None) -> None:
    """Check pods that pi knows, all at the same time."""
    if options.ssh is not None:
        raise InputError("flags-conflict", "a machine and --pod or --all-pods cannot be used together", "leave one out")
    began = time.monotonic()

    def checked(_: Pod, connection: Connection) -> MachineFacts:
        return check(connection, os.environ, models_path)

    with screen.progress() as line:
        line.run("  asking the pods", screen.clock_since(began), quiet=True)
        asked = group.ask(c, where.several(c, options.pod, options.all_pods), checked)
    found = [_judged(each) for each in asked]
    if options.json:
        screen.say_json(group.one_or_all(found, "check", lambda _, facts: check_report.as_json(facts, findings(facts))))
    else:
        for each in found:
            if each.answer:
                screen.say(f"{each.pod.name}:")
                check_report.show(each.answer, findings(each.answer))
    group.raise_failed(found)


def _judged(asked: Asked[MachineFacts]) -> Asked[MachineFacts]:
    """Return a pod as failed if something there would stop a setup."""
    error = _objection(findings(asked.answer)) if asked.answer else asked.error
    if error and asked.answer:
        error = RemoteError(error.id, f"{asked.pod.name}: {error.message}", error.hint)
    return Asked(asked.pod, asked.answer, error)
