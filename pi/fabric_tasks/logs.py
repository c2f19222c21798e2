"""`pi logs`: follow a model's log."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.calls.events import Event, Log, Progress
from pi.calls.logs import follow_log
from pi.errors import InputError, Interrupted, RemoteError
from pi.fabric_tasks.flags import flag, operand, switch
from pi.fabric_tasks.options import PodsOptions
from pi.fabric_tasks.verb import verb
from pi.pods.types import Pod, check_name
from pi.steps import group, where

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@dataclass(frozen=True)
class LogsOptions(PodsOptions):
    name: str | None = operand("[NAME]", "which model", completes="name")
    lines: int = flag("N", "begin with this many of the last lines", 200, short="-n")
    since: str | None = flag("10m", "begin with what vLLM wrote in this time, such as 30s, 10m or 2h")
    grep: str | None = flag("TEXT", "only lines that contain this text, in any case")
    previous: bool = switch("the log of the start before, to its end", excludes="--setup")
    setup: bool = switch("the log of the last pi pods setup, to its end")
    follow: bool = switch("go on with what vLLM writes, until Ctrl+C (the default)", short="-f", excludes="--no-follow")
    no_follow: bool = switch("print them and exit")
    raw: bool = switch("print escape sequences too; the log may then change your terminal's settings")
    json: bool = switch("print each line, and at last the end, as JSON (schema: docs/json.md)", excludes="--raw")

    def named(self) -> str:
        """Return the model's name; empty for the log of a setup. Raises InputError."""
        if self.setup:
            if self.name is not None:
                raise InputError("flags-conflict", "--setup is the log of a pod, not of a model", "leave the name out")
            return ""
        if self.name is None:
            raise InputError("name-missing", "which model?", "pi logs NAME; pi list shows the names")
        return check_name(self.name, "model")

    def since_s(self) -> int | None:
        """Return the seconds of `--since`. Raises InputError."""
        if self.since is None:
            return None
        found = re.fullmatch(r"([0-9]{1,6})([smhd]?)", self.since, re.ASCII)
        if not found:
            raise InputError("since-invalid", f"invalid --since {self.since!r}", "use a time such as 30s, 10m or 2h")
        return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


@verb(LogsOptions, examples=("pi logs qwen", "pi logs qwen -n 50 --no-follow", "pi logs --setup --all-pods"))
def logs(c: Any, options: LogsOptions) -> None:
    """Follow a model's log; Ctrl+C stops following, not the model."""
    name = options.named()
    chosen = where.several(c, options.pod, options.all_pods)
    several = len(chosen.pods) > 1
    with suppress(KeyboardInterrupt, Interrupted):
        asked = group.ask(c, chosen, lambda pod, connection: _followed(pod, connection, name, options, several))
        group.raise_failed(asked)


def _followed(pod: Pod, connection: Connection, name: str, options: LogsOptions, several: bool) -> None:
    """Print a log; with `several` pods, the pod's name before each line. Raises RemoteError if the server exited."""
    label, named = (f"{pod.name}: ", {"pod": pod.name}) if several else ("", {})
    if options.json:
        output: screen.Output | screen.LineOutput = screen.LineOutput(
            lambda line: screen.say_json_line({**named, "line": line})
        )
    elif several:
        output = screen.LineOutput(lambda line: screen.reveal(f"{label}{line}"))
    else:
        output = screen.Output(raw=options.raw)

    def hear(event: Event) -> None:
        match event:
            case Log(text):
                output.write(text)
            case Progress(text):
                screen.note(f"{label}{text}")

    try:
        end = follow_log(
            connection,
            name,
            hear,
            which="setup" if options.setup else "previous" if options.previous else "log",
            lines=options.lines,
            since_s=options.since_s(),
            grep=options.grep,
            follow=not options.no_follow,
        )
    finally:
        output.end()
    if options.json:
        screen.say_json_line({**named, "ended": end.how, "exit_code": end.exit_code})
    if end.how == "exited":
        status = "an unknown status" if end.exit_code is None else f"status {end.exit_code}"
        raise RemoteError("model-exited", f"{label}{name} exited with {status}", "pi list shows why")
    if end.how == "stopped":
        screen.note(f"{label}{name} was stopped")
