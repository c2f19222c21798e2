"""The `pi` command: an Invoke Program whose verbs, help, errors and completion read as one small tool."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from difflib import get_close_matches
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from invoke import Argument, Config, Exit, Program
from invoke.parser import Parser

from pi import __version__, faults, screen
from pi.errors import PiError
from pi.text import one_line

if TYPE_CHECKING:
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
6 model did not become ready, 130 interrupted."""

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


class Usage(Exit):
    """A wrong call: what is wrong and the verb's usage, as one line on stderr; exit code 2."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(screen.printable(f"pi: {one_line(message, 300)}; usage: {usage}"), 2)


class PiConfig(Config):
    """Invoke's settings under pi's own name (`/etc/pi.yaml`, `~/.pi.yaml`), so that Invoke's are not taken."""

    prefix = "pi"


class Pi(Program):
    """Reads verbs as people write them; Invoke's parser would take a second verb, `-x` or `--help` for its own."""

    words: list[str]

    def parse_core_args(self) -> None:
        """Invoke's own flags stay at their defaults; pi's few are read by `parse_tasks`."""
        self.words = list(self.argv[1:])
        self.core = Parser(initial=self.initial_context, ignore_unknown=True).parse_argv([])

    def parse_core(self, argv: list[str] | None) -> None:
        keep = sys.dont_write_bytecode
        super().parse_core(argv)
        sys.dont_write_bytecode = keep

    def parse_tasks(self) -> None:
        words = self.words
        if words[:1] in (["--version"], ["-V"]):
            print(f"pi {__version__}")
            raise Exit
        if words[:1] == ["--print-completion-script"]:
            self._print_completion_script(words[1:])
        if words[:2] == ["--complete", "--"]:
            print("\n".join(self._candidates(words[2:])))
            raise Exit
        asks_help = words[:1] in (["--help"], ["-h"])
        words = words[asks_help:]
        if not words:
            self.print_help()
            raise Exit
        name, rest = self._verb(words)
        task: Verb = self.collection[name]
        if asks_help or wants_help(task, rest):
            self._print_verb_help(name, task)
            raise Exit
        self.tasks = [(name, Reading(name, task, rest).values())]  # type: ignore[assignment]

    def parse_cleanup(self) -> None:
        """Nothing is left to do: help and completion end in `parse_tasks`."""

    def _verb(self, words: list[str]) -> tuple[str, list[str]]:
        """The task that the first word, or the first two, name, and the words after it."""
        names = self.collection.task_names
        if ".".join(words[:2]) in names:
            return ".".join(words[:2]), words[2:]
        if words[0] in self.collection.collections:
            default = f"{words[0]}.{self.collection.collections[words[0]].default}"
            if len(words) > 1 and not words[1].startswith("-"):
                raise Usage(
                    f"no verb {' '.join(words[:2])!r}{self._meant(words)}",
                    usage_of(default, self.collection[default]),
                )
            return default, words[1:]
        if words[0] in names and "." not in words[0]:
            return words[0], words[1:]
        raise Usage(f"no verb {words[0]!r}{self._meant(words)}", "pi VERB ...; pi --help lists the verbs")

    def _meant(self, words: list[str]) -> str:
        spoken = [name.replace(".", " ") for name in self.collection.task_names]
        close = get_close_matches(" ".join(words[:2]), spoken, 1) or get_close_matches(words[0], spoken, 1)
        return f" (did you mean {close[0]!r}?)" if close else ""

    def _verbs(self) -> Iterator[tuple[str, Verb]]:
        """Every verb, those of the pods first."""
        for name in sorted(self.collection.task_names, key=lambda name: "." not in name):
            yield name, self.collection[name]

    def print_help(self) -> None:
        print("pi: a bare GPU machine becomes a private, OpenAI-compatible model endpoint, over nothing but SSH.\n")
        print("Usage: pi VERB ...   (pi VERB --help says more)\n")
        rows = [(spoken(name), summary(task)) for name, task in self._verbs()]
        rows += list(CORE_FLAGS.items())
        screen.columns([("", *row) for row in rows])
        print("\n" + ENDING)

    def _print_verb_help(self, name: str, task: Verb) -> None:
        print(f"Usage: {usage_of(name, task)}\n\n{summary(task)}\n")
        operands = {operand.strip("[].") for operand in task.operands}
        flags = [
            (
                f"--{argument.names[0]}" + ("" if argument.kind is bool else " ..."),
                task.details.get(str(argument.name), ""),
            )
            for argument in task.get_arguments(ignore_unknown_help=True)
            if argument.name not in operands
        ]
        screen.columns([("", *flag) for flag in flags])

    def _print_completion_script(self, shell: list[str]) -> None:
        if len(shell) != 1 or shell[0] not in COMPLETION:
            raise Usage("which shell?", "pi --print-completion-script bash|zsh|fish")
        print(COMPLETION[shell[0]], end="")
        raise Exit

    def _candidates(self, words: list[str]) -> list[str]:
        """What could stand in the place of the last word."""
        *before, current = words or [""]
        return sorted({word for word in self._possible(before) if word.startswith(current)})

    def _possible(self, before: list[str]) -> list[str]:
        names = [name.split(".") for name in self.collection.task_names]
        if not before:
            return [name[0] for name in names]
        subverbs = [name[1] for name in names if len(name) == 2 and [name[0]] == before]
        with contextlib.suppress(Exit):
            name, rest = self._verb(before)
            task = self.collection[name]
            return subverbs + possible_words(task, rest)
        return subverbs


class Reading:
    """The words after a verb, read by the task's own arguments: flags, operands, and a raw tail."""

    def __init__(self, name: str, task: Verb, words: list[str]) -> None:
        self._usage = usage_of(name, task)
        self._task = task
        self._flags = flags_of(task)
        self._operands: list[str] = []
        self._values: dict[str, Any] = {}
        self._read(words)

    def values(self) -> dict[str, Any]:
        """Keyword arguments for the task."""
        return {**self._values, **self._distributed()}

    def _read(self, words: list[str]) -> None:
        rest = iter(words)
        for word in rest:
            if word == "--":
                self._operands += rest
            elif self._task.tail and word == f"--{self._task.tail}":
                self._values[str(self._task.tail)] = list(rest)
            elif word.startswith("-") and word != "-":
                self._flag(word, rest)
            else:
                self._operands.append(word)

    def _flag(self, word: str, rest: Iterator[str]) -> None:
        flag, given, value = word.partition("=")
        argument = self._flags.get(flag)
        if argument is None:
            close = get_close_matches(flag, self._flags, 1)
            raise Usage(f"unknown option {flag}{f' (did you mean {close[0]}?)' if close else ''}", self._usage)
        key = str(argument.name)
        if argument.kind is bool:
            if given:
                raise Usage(f"{flag} takes no value", self._usage)
            self._values[key] = True
            return
        text = value if given else next(rest, None)
        if text is None:
            raise Usage(f"{flag} needs a value", self._usage)
        if argument.kind is list:
            self._values.setdefault(key, []).append(text)
            return
        try:
            self._values[key] = argument.kind(text)
        except ValueError:
            raise Usage(f"{flag} {text!r} is not a whole number", self._usage) from None

    def _distributed(self) -> dict[str, Any]:
        """Operands by name: required ones get a word each, optional ones what is left, `...` the rest."""
        words = list(self._operands)
        values: dict[str, Any] = {}
        required = [operand for operand in self._task.operands if not operand.startswith("[")]
        spare = len(words) - len(required)
        for operand in self._task.operands:
            name = operand.strip("[].")
            if operand.endswith("...") or operand.endswith("...]"):
                values[name], words = words, []
                if not values[name] and operand in required:
                    raise Usage(f"{name} is missing", self._usage)
            elif operand in required:
                if not words:
                    raise Usage(f"{name} is missing", self._usage)
                values[name] = words.pop(0)
            elif spare > 0:
                values[name], spare = words.pop(0), spare - 1
        if words:
            raise Usage(f"unexpected {words[0]!r}", self._usage)
        return values


def flags_of(task: Verb) -> dict[str, Argument]:
    """The task's arguments by flag."""
    return {
        f"--{name}": argument for argument in task.get_arguments(ignore_unknown_help=True) for name in argument.names
    }


def wants_help(task: Verb, words: list[str]) -> bool:
    """Whether the words ask for help; after a raw tail they belong to vLLM."""
    tail = f"--{task.tail}"
    own = words[: words.index(tail)] if task.tail and tail in words else words
    own = own[: own.index("--")] if "--" in own else own
    return "--help" in own or "-h" in own


def possible_words(task: Verb, before: list[str]) -> list[str]:
    """Flags of a task, and the names that its next word may be."""
    from pi import state

    try:
        known = state.load()
    except PiError:
        return []
    flag = before[-1] if before and before[-1].startswith("--") else None
    if flag == "--pod" or task.name in ("active", "remove"):
        return list(known.pods)
    models = [name for pod in known.pods.values() for name in pod.models]
    return [*flags_of(task), *(models if task.name in ("stop", "logs", "prompt") else [])]


def spoken(name: str) -> str:
    """A task's name as it is typed: "pods.setup" is "pods setup", "pods.list" is "pods"."""
    return "pods" if name == "pods.list" else name.replace(".", " ")


def usage_of(name: str, task: Verb) -> str:
    return f"pi {spoken(name)} {task.usage}".rstrip()


def summary(task: Verb) -> str:
    return (task.__doc__ or "").strip().splitlines()[0]


def program() -> Pi:
    from pi.fabric_tasks import namespace

    return Pi(
        name="pi",
        version=__version__,
        namespace=namespace(),
        config_class=PiConfig,
        binary_names=["pi", "pi-pods"],
    )


def main() -> None:
    """Entry point of the `pi` and `pi-pods` commands."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # "?" for what a terminal cannot show
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    threading.excepthook = lambda raised: screen.note(faults.told(raised.exc_value or raised.exc_type()))
    try:
        program().run()
    except KeyboardInterrupt as stop:
        sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        screen.note(faults.told(error))
        sys.exit(1)
    finally:
        _drop_what_cannot_be_written()


def _drop_what_cannot_be_written() -> None:
    """Python would try again when it ends, complain, and take an exit code of its own."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt(number)
