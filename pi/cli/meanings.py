"""Verbs of other programs, and the verb of pi that means the same."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MEANINGS = {
    "list": "ls ps status show top state",
    "stop": "rm kill delete unload terminate shutdown",
    "start": "run serve launch deploy load create",
    "restart": "reload recreate",
    "up": "apply compose sync",
    "export": "save dump",
    "prompt": "chat ask talk query generate",
    "logs": "log tail journal",
    "models": "catalog search find available",
    "plan": "estimate fit dry-run preview",
    "audit": "history events changes",
    "pull": "download fetch get",
    "cache": "disk df du space",
    "tunnel": "forward port-forward proxy connect",
    "door": "gateway router litellm",
    "key list": "key keys",
    "key show": "token secret",
    "ssh": "exec remote",
    "shell": "sh bash attach login enter",
    "doctor": "diagnose health fix",
    "env": "environment url endpoint",
    "pods": "machines hosts servers nodes",
    "pods setup": "add init install register new",
    "pods active": "use select switch checkout",
    "pods address": "move",
    "pods rename": "mv",
}
"""Words by verb."""

OF_PODS = {
    "pods": "ls ps status show",
    "pods remove": "rm kill delete forget unregister",
    "pods setup": "create upgrade repair update",
}
"""Words that mean something else after `pods`."""

OF_KEYS = {
    "key list": "ls ps status",
    "key add": "new create make generate",
    "key revoke": "rm remove delete kill end stop",
    "key show": "print get cat",
}
"""Words that mean something else after `key`."""


FLAGS = {
    "--all-pods": "-a --all -A --every",
    "--lines": "--tail --num --count -l",
    "--no-follow": "--nofollow",
    "--name": "-n --as --alias --served-model-name",
    "--yes": "-f --force --no-prompt",
    "--json": "-o --output --format -j",
    "--watch": "-w",
    "--quiet": "--silent",
    "--background": "-d --detach --daemon",
    "--detach": "-d --background",
    "--context": "--max-model-len --ctx --context-length",
    "--memory": "--gpu-memory-utilization",
    "--gpus": "--tensor-parallel-size --tp",
}
"""Flags of other programs, by the flag of pi that means the same."""


def meant_flag(name: str, own: Iterable[str]) -> str | None:
    """Return the flag among a verb's own that another program's flag means."""
    own = list(own)
    return next((flag for flag, others in FLAGS.items() if flag in own and name in others.split()), None)


def meant(words: list[str], names: Iterable[str]) -> str | None:
    """Return the verb that the user may have meant: by its meaning, else by its letters."""
    names = list(names)
    groups = {"pods": _by_word(MEANINGS, "pods ") | _by_word(OF_PODS), "key": _by_word(OF_KEYS)}
    found = groups.get(words[0], {}).get(words[1].lower()) if len(words) > 1 else None
    found = found or _by_word(MEANINGS).get(words[0].lower())
    if found in names:
        return found
    close = get_close_matches(" ".join(words[:2]), names, 1) or get_close_matches(words[0], names, 1)
    return close[0] if close else None


def _by_word(meanings: dict[str, str], prefix: str = "") -> dict[str, str]:
    return {word: verb for verb, words in meanings.items() if verb.startswith(prefix) for word in words.split()}
