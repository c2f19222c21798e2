"""The `pi` command: an Invoke Program with its own grammar, help and completion."""

from __future__ import annotations

# isort: off
import pi.cli.thin_invoke  # noqa: F401 - must come before anything that imports Invoke
# isort: on

import contextlib
import os
import signal
import sys
import threading
from difflib import get_close_matches
from io import TextIOWrapper

from invoke import Collection, Config, Exit, Program
from invoke.parser import Parser

from pi import __version__, faults, screen
from pi.cli.completion import SCRIPTS, next_words
from pi.cli.help import CORE_FLAGS, ENDING, TITLE, rows, summary, typed, usage_of
from pi.cli.words import Reading, Usage, wants_help
from pi.errors import PiError, Signalled, signal_of
from pi.fabric_tasks import DEFAULTS, VERBS, namespace, task_named
from pi.fabric_tasks.verb import Verb


class PiConfig(Config):
    """Invoke's settings from pi's own files (`/etc/pi.yaml`, `~/.pi.yaml`) instead of Invoke's."""

    prefix = "pi"


class Pi(Program):
    """Reads a verb, then its flags and operands; Invoke's parser would take some of them for its own."""

    words: list[str]

    def parse_core_args(self) -> None:
        """Leave Invoke's own flags at their defaults; `parse_tasks` reads pi's."""
        self.words = list(self.argv[1:])
        self.core = Parser(initial=self.initial_context, ignore_unknown=True).parse_argv([])

    def parse_core(self, argv: list[str] | None) -> None:
        """Undo that Invoke turns off bytecode files, without which every run compiles what it imports."""
        before = sys.dont_write_bytecode
        super().parse_core(argv)
        sys.dont_write_bytecode = before

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
        task = task_named(name)
        if asks_help or wants_help(task, rest):
            self._print_verb_help(name, task)
            raise Exit
        self.collection = namespace([name])
        self.tasks = [(name, Reading(name, task, rest).values())]  # type: ignore[assignment]

    def parse_cleanup(self) -> None:
        """Do nothing: help and completion end in `parse_tasks`."""

    def _verb(self, words: list[str]) -> tuple[str, list[str]]:
        """Return the task named by the first word or two, and the words after it."""
        if ".".join(words[:2]) in VERBS:
            return ".".join(words[:2]), words[2:]
        if default := DEFAULTS.get(words[0]):
            if len(words) > 1 and not words[1].startswith("-"):
                raise Usage(
                    "unknown-verb",
                    f"no verb {' '.join(words[:2])!r}{self._suggestion(words)}",
                    usage_of(default, task_named(default)),
                )
            return default, words[1:]
        if words[0] in VERBS and "." not in words[0]:
            return words[0], words[1:]
        raise Usage(
            "unknown-verb", f"no verb {words[0]!r}{self._suggestion(words)}", "pi VERB ...; pi --help lists the verbs"
        )

    def _suggestion(self, words: list[str]) -> str:
        names = [name.replace(".", " ") for name in VERBS]
        close = get_close_matches(" ".join(words[:2]), names, 1) or get_close_matches(words[0], names, 1)
        return f" (did you mean {close[0]!r}?)" if close else ""

    def print_help(self) -> None:
        print(f"{TITLE}\n\nUsage: pi VERB ...   (pi VERB --help says more)\n")
        verbs = [(typed(name), summary(task_named(name))) for name in VERBS]
        screen.columns([("", *row) for row in [*verbs, *CORE_FLAGS.items()]])
        print("\n" + ENDING)

    def _print_verb_help(self, name: str, task: Verb) -> None:
        print(f"Usage: {usage_of(name, task)}\n\n{summary(task)}\n")
        screen.columns([("", *row) for row in rows(task)])

    def _print_completion_script(self, shell: list[str]) -> None:
        if len(shell) != 1 or shell[0] not in SCRIPTS:
            raise Usage("unknown-shell", "which shell?", "pi --print-completion-script bash|zsh|fish")
        print(SCRIPTS[shell[0]], end="")
        raise Exit

    def _candidates(self, words: list[str]) -> list[str]:
        """Return the completions of the last word."""
        *before, current = words or [""]
        return sorted({word for word in self._possible(before) if word.startswith(current)})

    def _possible(self, before: list[str]) -> list[str]:
        names = [name.split(".") for name in VERBS]
        if not before:
            return [name[0] for name in names]
        subverbs = [name[1] for name in names if len(name) == 2 and [name[0]] == before]
        with contextlib.suppress(Exit):
            name, rest = self._verb(before)
            return subverbs + next_words(name, task_named(name), rest)
        return subverbs


def program() -> Pi:
    """Return the program; `parse_tasks` adds the typed verb's task to its collection."""
    return Pi(
        name="pi",
        version=__version__,
        namespace=Collection("pi"),
        config_class=PiConfig,
        binary_names=["pi", "pi-pods"],
    )


def main() -> None:
    """Run the `pi` or `pi-pods` command."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # "?" for what a terminal cannot show
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    threading.excepthook = lambda raised: screen.note(faults.describe(raised.exc_value or raised.exc_type()))
    try:
        try:
            program().run()
        finally:
            screen.flush()
    except KeyboardInterrupt as stop:
        sys.exit(128 + signal_of(stop))
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Invoke exits with 1 if no verb runs yet
            sys.exit(128 + signal_of(end.__context__))
        raise
    except BrokenPipeError:
        screen.leave_stdout()
        sys.exit(141)
    except PiError as error:
        screen.note(error.render())
        sys.exit(error.exit_code)
    except Exception as error:
        screen.note(faults.describe(error))
        sys.exit(1)


def _open_closed_streams() -> None:
    """Open /dev/null for a closed stdin, stdout or stderr (`>&-`), so that no other file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _interrupt(number: int, frame: object) -> None:
    raise Signalled(number)
