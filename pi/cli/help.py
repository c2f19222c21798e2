"""The text of `pi --help` and of `pi VERB --help`."""

from __future__ import annotations

from pi.fabric_tasks.flags import Flag, flags_of, operands_of
from pi.fabric_tasks.verb import Verb

TITLE = "pi: a bare GPU machine becomes a private, OpenAI-compatible model endpoint, over nothing but SSH."

CORE_FLAGS = {
    "--help": "show this help, or a command's own (pi VERB --help)",
    "--version": "show pi's version",
    "--print-completion-script SHELL": 'for bash, zsh or fish: eval "$(pi --print-completion-script bash)"',
}

ENDING = """\
Environment: PI_API_KEY guards your models, HF_TOKEN downloads them, PI_CONFIG_DIR replaces ~/.pi,
PI_LOCK_TIMEOUT (seconds) waits for another pi, PI_DEBUG=1 writes tracebacks to a file there.
Exit codes: 0 done, 1 failed on the pod, 2 bad input, 3 pod unreachable, 4 host key changed, 5 busy,
6 model did not become ready, 130 interrupted (143 by TERM, 129 by HUP)."""


def typed(name: str) -> str:
    """Return a task's name as it is typed: "pods.setup" is "pods setup", "pods.list" is "pods"."""
    return "pods" if name == "pods.list" else name.replace(".", " ")


def usage_of(name: str, task: Verb) -> str:
    """Return the usage line of a verb."""
    flags = flags_of(task.options)
    heads = [flag for flag in flags if not flag.requires and not flag.excludes]
    words = [operand.written for operand in operands_of(task.options)] + [_bracketed(flag, flags) for flag in heads]
    return " ".join(filter(None, ["pi", typed(name), *words])) + (f"   {task.remark}" if task.remark else "")


def _bracketed(flag: Flag, flags: list[Flag]) -> str:
    bracketed = _written(flag, flags) if flag.required else f"[{_written(flag, flags)}]"
    return f"{bracketed}..." if flag.repeats else bracketed


def _written(flag: Flag, flags: list[Flag]) -> str:
    """Return a flag with those that require it, and after bars those that it excludes."""
    followers = [f" {_bracketed(other, flags)}" for other in flags if other.requires == flag.name]
    others = [f"|{_written(other, flags)}" for other in flags if other.excludes == flag.name]
    return "".join([flag.short or flag.written, *followers, *others])


def summary(task: Verb) -> str:
    return (task.__doc__ or "").strip().splitlines()[0]


def rows(task: Verb) -> list[tuple[str, str]]:
    """Return each operand and flag of a verb as it is written, and its help."""
    operands = [(operand.written, operand.help) for operand in operands_of(task.options)]
    return operands + [(flag.written, flag.help) for flag in flags_of(task.options)]
