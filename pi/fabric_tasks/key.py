"""`pi key`: the key of the models, and named keys for others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.calls.key import MAIN, Keys, add_key, read_keys, revoke_key
from pi.fabric_tasks.flags import Options, operand
from pi.fabric_tasks.options import PodOptions, PodsOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.pods import changes
from pi.pods.types import check_name
from pi.steps import group, keys, where
from pi.steps.group import Asked

if TYPE_CHECKING:
    from pi.steps.json_shapes import KeyJson, KeysJson

HEADERS = ("NAME", "ADDED (UTC)", "REQUESTS", "LAST")


@dataclass(frozen=True)
class NamedKeyOptions(PodOptions):
    name: str = operand("NAME", "name of the key, such as a user or a program", required=True)


@dataclass(frozen=True)
class KeysOptions(PodsOptions):
    json: bool = json_switch()


@verb(Options, examples=("pi key show", 'export OPENAI_API_KEY="$(pi key show)"'))
def show(c: Any, options: Options) -> None:
    """Print the key of your models: PI_API_KEY, or that of --generate-key."""
    screen.reveal(keys.api_key())


@verb(NamedKeyOptions, examples=("pi key add ann", "pi key add ci --pod dc1 >ci.key"))
def add(c: Any, options: NamedKeyOptions) -> None:
    """Make another key for all models of a pod, and print it once; no restart."""
    name, key = check_name(options.name, "key"), keys.made()
    with where.targeted(c, options.pod) as (pod, connection), changes.change("key add", f"{pod.name}/{name}"):
        found = add_key(connection, name, key)
    screen.note(f"the models of {pod.name} accept this key; pi shows it only now (to end it: pi key revoke {name})")
    _note_deaf(found)
    screen.reveal(key)


@verb(KeysOptions, name="list", examples=("pi key list", "pi key list --all-pods --json"))
def list_keys(c: Any, options: KeysOptions) -> None:
    """List the keys of a pod and how many requests each has made."""
    asked = group.ask(c, where.several(c, options.pod, options.all_pods), lambda _, connection: read_keys(connection))
    if options.json:
        screen.say_json(_as_json(asked))
    else:
        _show(asked)
    group.raise_failed(asked)


@verb(NamedKeyOptions, examples=("pi key revoke ann",))
def revoke(c: Any, options: NamedKeyOptions) -> None:
    """End a named key: the models of the pod refuse it within a second."""
    name = check_name(options.name, "key")
    with where.targeted(c, options.pod) as (pod, connection), changes.change("key revoke", f"{pod.name}/{name}"):
        revoke_key(connection, name)
    screen.say(f"the models of {pod.name} refuse the key {name} now; answers that have begun continue")


def _show(asked: list[Asked[Keys]]) -> None:
    several = len(asked) > 1
    rows = [(each.pod.name, *row) if several else row for each in asked if each.answer for row in key_rows(each.answer)]
    if rows:
        screen.table(rows, ("POD", *HEADERS) if several else HEADERS)
    for each in asked:
        if each.answer:
            _note_deaf(each.answer)


def key_rows(found: Keys) -> list[tuple[str, ...]]:
    """Return the cells of each key under HEADERS."""
    last = ["-" if key.used_s_ago is None else screen.ago(key.used_s_ago) for key in found.keys]
    return [
        (key.name or MAIN, key.added or "-", str(key.requests), used)
        for key, used in zip(found.keys, last, strict=True)
    ]


def _note_deaf(found: Keys) -> None:
    if found.deaf:
        names = ", ".join(found.deaf)
        screen.note(f"note: an older pi started {names}; they accept named keys after a stop and a start")


def _as_json(asked: list[Asked[Keys]]) -> KeysJson:
    return {
        "pods": [
            {
                "pod": each.pod.name,
                "error": group.error_json(each.error),
                "keys": [_key_json(key.name, key.added, key.requests, key.used_s_ago) for key in each.answer.keys]
                if each.answer
                else [],
            }
            for each in asked
        ]
    }


def _key_json(name: str | None, added: str | None, requests: int, used_s_ago: float | None) -> KeyJson:
    seconds = None if used_s_ago is None else int(used_s_ago)
    return {"name": name, "added": added, "requests": requests, "idle_seconds": seconds}
