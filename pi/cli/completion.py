"""Complete words in bash, zsh and fish."""

from __future__ import annotations

from pi.errors import PiError
from pi.fabric_tasks.flags import flags_of
from pi.fabric_tasks.verb import Verb
from pi.pods import state

SCRIPTS = {
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

SCRIPTS["zsh"] = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n" + SCRIPTS["bash"]


def next_words(name: str, task: Verb, before: list[str]) -> list[str]:
    """Return what may follow the words after a verb: values of the last flag, or flags and names."""
    flags = {flag.name: flag for flag in flags_of(task.options)}
    last = flags.get(before[-1]) if before else None
    if last and last.choices:
        return list(last.choices)
    try:
        pods = state.load().pods
    except PiError:
        return []
    is_first = all(word.startswith("-") for word in before)
    if (last and last.name == "--pod") or (name in POD_NAMED and is_first):
        return list(pods)
    models = [model for pod in pods.values() for model in pod.models]
    return [*flags, *(models if name in MODEL_NAMED else [])]


POD_NAMED = ("pods.active", "pods.address", "pods.rename", "pods.remove")
"""Verbs whose first operand is the name of a pod."""

MODEL_NAMED = ("stop", "logs", "explain", "prompt")
"""Verbs whose operand is the name of a model on a pod."""
