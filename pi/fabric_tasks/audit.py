"""`pi audit`: what was changed on a pod, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pi import screen
from pi.calls.audit import recent_changes
from pi.errors import InputError
from pi.fabric_tasks.flags import flag
from pi.fabric_tasks.options import PodsOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.steps import group, where
from pi.steps.group import Asked

if TYPE_CHECKING:
    from pi.steps.json_shapes import AuditJson, ChangeJson

HEADERS = ("TIME (UTC)", "WHO", "COMMAND", "NAME", "RESULT")

FIELDS = ("time", "who", "command", "name", "result")


@dataclass(frozen=True)
class AuditOptions(PodsOptions):
    lines: int = flag("N", "show this many changes", 50, short="-n")
    json: bool = json_switch()


@verb(AuditOptions, name="audit", examples=("pi audit", "pi audit -n 10 -p dc1", "pi audit --all-pods --json"))
def audit(c: Any, options: AuditOptions) -> None:
    """Show the latest changes on the pod: who, what, and the result."""
    if options.lines < 1:
        raise InputError("lines-invalid", f"invalid --lines {options.lines}", "use 1 or more")
    chosen = where.several(c, options.pod, options.all_pods)
    asked = group.ask(c, chosen, lambda pod, connection: recent_changes(connection, options.lines))
    if options.json:
        screen.say_json(_as_json(asked))
    else:
        _show(asked)
    group.raise_failed(asked)


def _show(asked: list[Asked[list[list[str]]]]) -> None:
    if len(asked) > 1:
        rows = [[each.pod.name, *row] for each in asked for row in each.answer or ()]
        headers: tuple[str, ...] = ("POD", *HEADERS)
        rows.sort(key=lambda row: row[1])
    else:
        rows, headers = asked[0].answer or [], HEADERS
    if rows:
        screen.table(rows, headers, shrink="WHO", below="RESULT")
    for each in asked:
        if each.answer == []:
            screen.say(f"no changes on {each.pod.name} yet")


def _as_json(asked: list[Asked[list[list[str]]]]) -> AuditJson:
    return {
        "pods": [
            {
                "pod": each.pod.name,
                "error": group.error_json(each.error),
                "changes": [cast("ChangeJson", dict(zip(FIELDS, row, strict=True))) for row in each.answer or ()],
            }
            for each in asked
        ]
    }
