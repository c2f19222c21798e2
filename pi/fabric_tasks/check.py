"""`pi pods check`: what a machine has, before its setup."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass
from typing import Any

from invoke import Exit

from pi import screen
from pi.calls.check import check
from pi.errors import RemoteError
from pi.fabric_tasks.flags import Options, flag, operand
from pi.fabric_tasks.json_refusals import json_refusals
from pi.fabric_tasks.options import json_switch
from pi.fabric_tasks.verb import verb
from pi.planning.preflight import findings
from pi.pods import state
from pi.pods.types import Pod
from pi.setup import mounts
from pi.ssh import target
from pi.steps import check_report, where


@dataclass(frozen=True)
class CheckOptions(Options):
    ssh: str = operand(
        '"ssh ..."|local|NAME', "the machine: its ssh command, `local`, or a pod's name", required=True, is_command=True
    )
    models_path: str | None = flag("P", "models directory that setup will use")
    json: bool = json_switch()


@verb(
    CheckOptions,
    name="check",
    examples=('pi pods check "ssh root@203.0.113.7 -p 22022"', "pi pods check local --json"),
)
def check_machine(c: Any, options: CheckOptions) -> None:
    """Check a machine before its setup: what it has and what fits; nothing on it changes."""
    with json_refusals(options.json):
        saved = state.load().pods.get(options.ssh)
        pod = saved or Pod("NAME", options.ssh)
        target.parse(pod.ssh)
        models_path = mounts.directory(options.models_path, "--models-path") if options.models_path else None
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
    check_report.show(facts, found, opened_s, (ran or [asked])[0] - asked)
    for each in found.stops[1:]:
        screen.note(f"{each.text}; {each.hint}")
    for first in found.stops:
        raise RemoteError("machine-not-ready", f"setup would stop: {first.text}", first.hint)
    screen.say(f"ready for: pi pods setup {pod.name} {shlex.quote(pod.ssh)}")
