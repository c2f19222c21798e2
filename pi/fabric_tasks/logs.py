"""`pi logs`: follow a model's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pi import screen
from pi.calls.events import Event, Log, Progress
from pi.calls.logs import follow_log
from pi.errors import Interrupted, RemoteError
from pi.fabric_tasks.flags import flag, operand, switch
from pi.fabric_tasks.options import PodOptions
from pi.fabric_tasks.verb import verb
from pi.pods.types import check_name
from pi.steps import where


@dataclass(frozen=True)
class LogsOptions(PodOptions):
    name: str = operand("NAME", "which model", required=True, completes="name")
    lines: int = flag("N", "begin with this many of the last lines", 200, short="-n")
    no_follow: bool = switch("print them and exit")
    raw: bool = switch("print escape sequences too; the log may then change your terminal's settings")
    json: bool = switch("print each line, and at last the end, as JSON (schema: docs/json.md)", excludes="--raw")


@verb(LogsOptions, examples=("pi logs qwen", "pi logs qwen -n 50 --no-follow"))
def logs(c: Any, options: LogsOptions) -> None:
    """Follow a model's log; Ctrl+C stops following, not the model."""
    name = check_name(options.name, "model")
    output = screen.LineOutput() if options.json else screen.Output(raw=options.raw)

    def hear(event: Event) -> None:
        match event:
            case Log(text):
                output.write(text)
            case Progress(text):
                screen.note(text)

    with where.targeted(c, options.pod) as (_, connection):
        try:
            end = follow_log(connection, name, hear, lines=options.lines, follow=not options.no_follow)
        except Interrupted:
            return
        finally:
            output.end()
    if options.json:
        screen.say_json_line({"ended": end.how, "exit_code": end.exit_code})
    if end.how == "exited":
        status = "an unknown status" if end.exit_code is None else f"status {end.exit_code}"
        raise RemoteError("model-exited", f"{name} exited with {status}", "pi list shows why")
    if end.how == "stopped":
        screen.note(f"{name} was stopped")
