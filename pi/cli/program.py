"""The `pi` command: an Invoke Program with its own grammar, help and completion."""

from __future__ import annotations

# isort: off
import pi.cli.thin  # noqa: F401 - must come before anything that imports Invoke
# isort: on

import os
import signal
import sys
import threading
from io import TextIOWrapper

from invoke import Collection, Config, Exit, Program
from invoke.parser import Parser

from pi import __version__, faults, screen
from pi.cli.help import program_help, verb_help
from pi.cli.verbs import named_verb, summaries
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
        if words[:1] in (["version"], ["--version"], ["-V"]):
            print(f"pi {__version__}")
            raise Exit
        if words[:1] and words[0].partition("=")[0] in COMPLETION_FLAGS:
            self._complete(words)
            raise Exit
        asks_help = words[:1] in (["help"], ["--help"], ["-h"])
        words = words[asks_help:]
        if not words:
            self.print_help()
            raise Exit
        name, rest = named_verb(words)
        task = task_named(name)
        if asks_help or wants_help(task, rest):
            self._print_verb_help(name, task)
            raise Exit
        self.collection = namespace([name])
        self.tasks = [(name, Reading(name, task, rest).values())]  # type: ignore[assignment]

    def parse_cleanup(self) -> None:
        """Do nothing: help and completion end in `parse_tasks`."""

    def print_help(self) -> None:
        screen.say(program_help(summaries(VERBS)))

    def _print_verb_help(self, name: str, task: Verb) -> None:
        group = name.rpartition(".")[0]
        siblings = [other for other in VERBS if group and other.startswith(f"{group}.") and other != name]
        screen.say(verb_help(name, task, summaries(siblings) if name in DEFAULTS.values() else []))

    def _complete(self, words: list[str]) -> None:
        from pi.cli import completion  # noqa: PLC0415 - only a shell needs it

        if words[0] == "--complete":
            screen.reveal("\n".join(completion.candidates(words[1:])))
            return
        shell = words[1:2] or [os.path.basename(os.environ.get("SHELL", ""))]  # noqa: PTH119 - not a file here
        if len(words) > 2 or shell[0] not in completion.SHELLS:
            raise Usage("unknown-shell", "which shell?", f"pi {words[0]} {'|'.join(completion.SHELLS)}")
        if words[0] == "--print-completion-script":
            screen.reveal(completion.script(shell[0]).rstrip("\n"))
        else:
            screen.say(completion.install(shell[0]))


COMPLETION_FLAGS = ("--complete", "--print-completion-script", "--install-completion")


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
