"""Completion of words for bash, zsh and fish."""

from __future__ import annotations

from pi.cli.flags import flags_of
from pi.errors import PiError
from pi.fabric_tasks.verb import Verb
from pi.pods import state

COMPLETION = {
    "bash": """\
_pi() { local IFS=$'\\n'; COMPREPLY=($("$1" --complete -- "${COMP_WORDS[@]:1:COMP_CWORD}")); }
complete -o default -F _pi pi pi-pods
""",
    "fish": """\
for name in pi pi-pods
    complete -c $name -f -a '(command '$name' --complete -- (commandline -opc)[2..] (commandline -ct))'
end
""",
}

COMPLETION["zsh"] = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n" + COMPLETION["bash"]


def possible_words(task: Verb, before: list[str]) -> list[str]:
    """Flags of a task, and the names that its next word may be."""
    try:
        known = state.load()
    except PiError:
        return []
    flag = before[-1] if before and before[-1].startswith("--") else None
    if flag == "--pod" or task.name in ("active", "remove"):
        return list(known.pods)
    models = [name for pod in known.pods.values() for name in pod.models]
    return [*flags_of(task), *(models if task.name in ("stop", "logs", "prompt") else [])]
