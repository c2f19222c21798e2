"""What `pi --help` and a verb's own help print."""

from __future__ import annotations

from pi.fabric_tasks.verb import Verb

CORE_FLAGS = {
    "--help": "show this, or a verb's own help (pi VERB --help)",
    "--version": "show pi's version",
    "--print-completion-script SHELL": 'for bash, zsh or fish: eval "$(pi --print-completion-script bash)"',
}

ENDING = """\
Environment: PI_API_KEY guards your models, HF_TOKEN fetches them, PI_CONFIG_DIR moves ~/.pi,
PI_LOCK_TIMEOUT (seconds) waits for another pi, PI_DEBUG=1 writes tracebacks to a file there.
Exit codes: 0 done, 1 failed on the pod, 2 bad input, 3 pod unreachable, 4 host key changed, 5 busy,
6 model did not become ready, 130 interrupted (143 by TERM, 129 by HUP)."""


def spoken(name: str) -> str:
    """A task's name as it is typed: "pods.setup" is "pods setup", "pods.list" is "pods"."""
    return "pods" if name == "pods.list" else name.replace(".", " ")


def usage_of(name: str, task: Verb) -> str:
    return f"pi {spoken(name)} {task.usage}".rstrip()


def summary(task: Verb) -> str:
    return (task.__doc__ or "").strip().splitlines()[0]
