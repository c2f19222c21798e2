"""`pi explain`: why a vLLM stopped, from its log."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi import screen
from pi.calls.explain import read_ending
from pi.errors import InputError
from pi.fabric_tasks.flags import flag, operand
from pi.fabric_tasks.options import PodsOptions, json_switch
from pi.fabric_tasks.verb import verb
from pi.pods import state
from pi.pods.types import Pod, check_name
from pi.steps import group, where
from pi.vllm.hint import as_vllm_words
from pi.vllm.log import Failure, explain

if TYPE_CHECKING:
    from pi.ssh.connection import Connection
    from pi.steps.json_shapes import ExplainJson

MAX_BYTES = 64 << 20
"""Read from the end of a file."""

STDIN = "-"


@dataclass(frozen=True)
class ExplainOptions(PodsOptions):
    log: str | None = operand("[NAME | FILE | -]", "a model on the pod, a file, or - for stdin; default: the last log")
    exit_code: str | None = flag("N", "how vLLM ended, such as 1, 137 or -9")
    json: bool = json_switch()

    def code(self) -> int | None:
        if self.exit_code is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,3}", self.exit_code, re.ASCII):
            raise InputError(
                "exit-code-invalid", f"invalid --exit-code {self.exit_code!r}", "use a number such as 1, 137 or -9"
            )
        return int(self.exit_code)


@verb(
    ExplainOptions,
    name="explain",
    examples=(
        "pi explain qwen",
        "pi explain vllm.log",
        "docker logs vllm | pi explain -",
        "pi explain --all-pods",
    ),
)
def explain_log(c: Any, options: ExplainOptions) -> None:
    """Say why a vLLM stopped, and what to do; for files and stdin, pi needs no pod."""
    code, is_on_pod = options.code(), bool(options.pod or options.all_pods)
    text = None if is_on_pod else _text_of(options.log)
    if text is None:
        return _explain_on_pods(c, options, code)
    failure = explain(text, code)
    if options.json:
        screen.say_json(_as_json(failure))
    else:
        _show(failure, "stdin" if options.log == STDIN else str(options.log), "pi_guard" in text)


def _explain_on_pods(c: Any, options: ExplainOptions, code: int | None) -> None:
    name = _model(options.log)

    def explained(pod: Pod, connection: Connection) -> tuple[str, Failure]:
        ended = read_ending(connection, name)
        return ended.name, _numbered(ended.failure(code, where.flag_for(pod.name)), ended.lines_before)

    asked = group.ask(c, where.several(c, options.pod, options.all_pods), explained)
    if len(asked) == 1:
        group.raise_failed(asked)
    if options.json:
        screen.say_json(group.one_or_all(asked, "explained", lambda _, named: _as_json(named[1])))
    else:
        for each in asked:
            if each.answer:
                if len(asked) > 1:
                    screen.say(f"{each.pod.name}: {each.answer[0]}")
                _show(each.answer[1], each.answer[0], True)
    group.raise_failed(asked)


def _as_json(failure: Failure) -> ExplainJson:
    return {"cause": failure.cause, "hint": failure.hint, "line": failure.line}


def _numbered(failure: Failure, lines_before: int | None) -> Failure:
    """Return a failure with the number of its line in the whole log, if that is known."""
    if failure.line is None or lines_before is None:
        return replace(failure, line=None)
    return replace(failure, line=lines_before + failure.line)


def _show(failure: Failure, source: str, is_own: bool) -> None:
    """Print the cause, where the log says it, and the hint; for another vLLM, the hint in vLLM's own words too."""
    screen.say(failure.cause)
    if failure.line:
        screen.say(f"  line {failure.line} of {source}")
    if failure.hint:
        screen.say(f"  {failure.hint}")
        own_words = as_vllm_words(failure.hint).replace("pi start ... ", "")
        if not is_own and own_words != failure.hint.replace("pi start ... ", ""):
            screen.say(f"  without pi: {own_words}")


def _text_of(name: str | None) -> str | None:
    """Return the text of a file or of stdin, or None for a model on the pod. Raises InputError."""
    if name == STDIN:
        return sys.stdin.buffer.read().decode("utf-8", "replace")
    if name is None or not _is_path(name):
        return None
    try:
        with Path(name).expanduser().open("rb") as file:
            return _end_of(file.read())
    except OSError as error:
        raise InputError("log-unreadable", f"cannot read {name}: {error.strerror}", "check the path") from None


def _model(name: str | None) -> str | None:
    """Return the name of a model on a pod. Raises InputError without a pod that could have it."""
    if not state.load().pods:
        missing = f"no file {name}" if name else "which log?"
        raise InputError("log-missing", missing, "give the path of a log, or - for stdin")
    return name and check_name(name, "model")


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith((".log", ".txt")) or Path(name).is_file()


def _end_of(content: bytes) -> str:
    """Return a log as text; of a very long one the end, with empty lines for the beginning, so that numbers stay."""
    left_out = content[:-MAX_BYTES].count(b"\n")
    return "\n" * left_out + content[-MAX_BYTES:].decode("utf-8", "replace")
