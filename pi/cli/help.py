"""The text of `pi --help` and of `pi VERB --help`, wrapped to the terminal."""

from __future__ import annotations

import textwrap

from pi import screen
from pi.fabric_tasks import DEFAULTS
from pi.fabric_tasks.flags import Flag, flags_of, operands_of
from pi.fabric_tasks.verb import Verb

TITLE = "pi: a bare GPU machine becomes a private, OpenAI-compatible model endpoint, over nothing but SSH."

CORE_FLAGS = {
    "help [VERB]": "show this help, or a command's own (also --help and -h)",
    "version": "show pi's version (also --version and -V)",
    "--install-completion [SHELL]": "complete commands, names and models in bash, zsh or fish",
    "--print-completion-script SHELL": "print the script instead",
}

ENDING = (
    "Environment: PI_API_KEY guards your models, HF_TOKEN downloads them, PI_CONFIG_DIR replaces ~/.pi,"
    " PI_LOCK_TIMEOUT (seconds) waits for another pi, NO_COLOR=1 switches colours off,"
    " PI_DEBUG=1 writes tracebacks to a file there.",
    "Exit codes: 0 done, 1 failed on the pod, 2 bad input, 3 pod unreachable, 4 host key changed, 5 busy,"
    " 6 model did not become ready, 130 interrupted (143 by TERM, 129 by HUP).",
)

PIPE_WIDTH = 80
"""Columns of help that is not printed on a terminal."""

WIDEST = 100
"""Columns of help on a wide terminal: longer lines are hard to read."""

TERM_WIDTH = 22
"""Columns of the longest term with its explanation on the same line."""

SHORT_USAGE = 60
"""Characters of a usage line that is shown whole after a mistake."""


def typed(name: str) -> str:
    """Return a task's name as it is typed: "pods.setup" is "pods setup", "pods.list" is "pods"."""
    return next((group for group, default in DEFAULTS.items() if default == name), name.replace(".", " "))


def usage_of(name: str, task: Verb) -> str:
    """Return the usage line of a verb."""
    return " ".join(["pi", typed(name), *_usage_words(task)]) + (f"   {task.remark}" if task.remark else "")


def short_usage_of(name: str, task: Verb) -> str:
    """Return the usage line for a wrong call: with optional flags only if they are few."""
    whole = usage_of(name, task)
    if len(whole) <= SHORT_USAGE:
        return whole
    operands = [operand.written for operand in operands_of(task.options)]
    required = [flag.written for flag in flags_of(task.options) if flag.required and not flag.requires]
    return " ".join(["pi", typed(name), *operands, *required, f"[OPTIONS]; see: pi {typed(name)} --help"])


def _usage_words(task: Verb) -> list[str]:
    """Return the parts of a usage line that stay together."""
    flags = flags_of(task.options)
    heads = [flag for flag in flags if not flag.requires and not flag.excludes]
    operands = [operand.written for operand in operands_of(task.options)]
    last = [operand for operand in operands if operand.startswith("-- ")]
    return [each for each in operands if each not in last] + [_bracketed(flag, flags) for flag in heads] + last


def _bracketed(flag: Flag, flags: list[Flag]) -> str:
    bracketed = _written(flag, flags) if flag.required else f"[{_written(flag, flags)}]"
    return f"{bracketed}..." if flag.repeats else bracketed


def _written(flag: Flag, flags: list[Flag]) -> str:
    """Return a flag with those that require it, and after bars those that it excludes."""
    followers = [f" {_bracketed(other, flags)}" for other in flags if other.requires == flag.name]
    others = [f"|{_written(other, flags)}" for other in flags if other.excludes == flag.name]
    return "".join([flag.written, *followers, *others])


def summary(task: Verb) -> str:
    return (task.__doc__ or "").strip().splitlines()[0]


def help_width() -> int:
    """Return the columns to wrap help to."""
    return min(screen.width() or PIPE_WIDTH, WIDEST)


def program_help(verbs: list[tuple[str, str]]) -> str:
    """Return the text of `pi --help`; `verbs` are names and summaries."""
    width = help_width()
    return "\n".join(
        [
            *textwrap.wrap(TITLE, width),
            "",
            "Usage: pi VERB ...   (pi VERB --help says more)",
            "",
            *_explained(verbs, width),
            "",
            *_explained(list(CORE_FLAGS.items()), width),
            *(line for paragraph in ENDING for line in ["", *textwrap.wrap(paragraph, width, subsequent_indent="  ")]),
        ]
    )


def verb_help(name: str, task: Verb, siblings: list[tuple[str, str]]) -> str:
    """Return the text of `pi VERB --help`; `siblings` are the names and summaries of its group's other verbs."""
    width = help_width()
    rows = [(operand.explained, operand.help) for operand in operands_of(task.options)]
    rows += [(flag.explained, flag.help) for flag in flags_of(task.options)]
    lines = [*_wrapped_usage(name, task, width), "", *textwrap.wrap(summary(task), width)]
    if rows:
        lines += ["", *_explained(rows, width)]
    if siblings and name in DEFAULTS.values():
        lines += ["", "More:", *_explained(siblings, width)]
    if task.examples:
        lines += ["", "Examples:" if len(task.examples) > 1 else "Example:", *(f"  {each}" for each in task.examples)]
    return "\n".join(lines)


def _wrapped_usage(name: str, task: Verb, width: int) -> list[str]:
    """Return the usage line, broken between its parts."""
    first = f"Usage: pi {typed(name)}"
    lines, indent = [first], " " * (len(first) + 1)
    if len(indent) > width // 2:
        indent = " " * 8
    for word in [*_usage_words(task), *([f"  {task.remark}"] if task.remark else [])]:
        if len(lines[-1]) + 1 + len(word) > width and lines[-1].strip():
            lines.append(indent + word.strip())
        else:
            lines[-1] += f" {word}"
    return lines


def _explained(rows: list[tuple[str, str]], width: int) -> list[str]:
    """Return terms with their explanations beside them, or below a long term."""
    column = min(TERM_WIDTH, max(len(term) for term, _ in rows))
    indent = " " * (column + 4)
    lines: list[str] = []
    for term, explanation in rows:
        texts = textwrap.wrap(explanation, max(20, width - len(indent)), break_on_hyphens=False)
        beside = texts.pop(0) if texts and len(term) <= column else ""
        lines += [f"  {term:{column}}  {beside}".rstrip(), *(indent + text for text in texts)]
    return lines
