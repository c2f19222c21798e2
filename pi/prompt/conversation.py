"""`pi prompt` behind one call: messages in, a conversation with a model, an exit code out."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TextIO

from pi import redaction, screen
from pi.errors import InputError, Interrupted
from pi.prompt.agent import Agent, Sampling
from pi.prompt.chat import chat
from pi.prompt.client import IDLE_SECONDS, Client
from pi.prompt.endpoint import Endpoint
from pi.prompt.events import SCHEMA, Event, Notice, Start
from pi.prompt.history import Message
from pi.prompt.paths import PathPolicy
from pi.prompt.render import JsonRenderer, QuietRenderer, RedactingRenderer, Renderer, TerminalRenderer
from pi.prompt.sessions import Sessions
from pi.prompt.tools import TOOLS, Toolbox
from pi.text import one_line, well_formed

Output = Literal["terminal", "json", "quiet"]

TOOL_CHOICES = ("auto", "none", "required")

STDIN = "-"

STDIN_BYTES = 16 * 1024 * 1024
"""How much of stdin is taken; more would fit into no model's context."""


@dataclass(frozen=True)
class Options:
    """How a conversation is held.

    `tools` offers the file tools, `tool_choice` is "auto", "none" or "required" (for the first request of a
    turn). `system` replaces the system message. `allow_outside` lets the tools read outside of the working
    directory. `temperature` and `max_tokens` (of one answer) are the server's to choose when None. An answer
    that pauses for `idle_seconds` is given up.
    """

    tools: bool = True
    tool_choice: str = "auto"
    system: str | None = None
    allow_outside: bool = False
    max_rounds: int = 50
    output: Output = "terminal"
    continue_last: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    idle_seconds: float = IDLE_SECONDS


def run(
    endpoint: Endpoint,
    messages: Sequence[str],
    options: Options,
    *,
    config_dir: Path,
    working_dir: Path,
    stdin: TextIO,
    stdout: TextIO,
    stderr: TextIO,
) -> int:
    """Holds a conversation: `messages` as its turns, or an interactive chat when there are none on a terminal.

    A message "-" stands for what comes on stdin: it is added to the message before it, or is a message of its
    own when it comes first. Without messages a pipe on stdin is the message. Returns 0, or 1 when the limit of
    rounds ended a turn.

    Raises:
        PiError: for what the user must be told; Interrupted after Ctrl+C.
    """
    _check(options)
    turns = _turns(messages, stdin)
    if turns is None and options.output != "terminal":
        raise InputError(
            "chat-needs-message", "a chat has no --json and no --quiet", 'give a message: pi prompt NAME "..."'
        )
    for stream in (stdout, stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    kept = _Kept(Sessions(config_dir), endpoint.model, working_dir, continue_last=options.continue_last)
    redaction.add(endpoint.api_key)
    shown = _Written(_renderer(options.output, stdout, stderr, echo=turns is not None and len(turns) > 1))
    renderer = RedactingRenderer(shown)
    policy = PathPolicy.of(working_dir, config_dir, allow_outside=options.allow_outside)
    toolbox = Toolbox(policy, TOOLS if options.tools else ())
    with contextlib.closing(Client(endpoint, idle_seconds=options.idle_seconds)) as client:
        agent = Agent(
            endpoint,
            client,
            toolbox,
            renderer.show,
            history=kept.history,
            system=default_system_message(policy.root) if options.system is None else options.system,
            system_without_tools=options.system,
            tool_choice=options.tool_choice,
            max_rounds=options.max_rounds,
            sampling=Sampling(options.temperature, options.max_tokens),
        )
        renderer.show(
            Start(
                schema=SCHEMA,
                conversation=kept.session.id,
                model=endpoint.model,
                api=endpoint.api,
                directory=kept.session.directory,
                continued=options.continue_last,
                tools=[tool.name for tool in toolbox.tools],
            )
        )
        if turns is None:
            whom = one_line(endpoint.model) + (f", which reads {one_line(str(policy.root))}" if toolbox.tools else "")
            chat(agent, config_dir / "prompt_history", stderr, whom, lambda: kept.save(renderer))
            return 0
        return _hold(agent, turns, renderer, kept)


class _Written:
    """A renderer whose output may go to a full disk: OutputError then."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def show(self, event: Event) -> None:
        with screen.writing():
            self._renderer.show(event)

    def close(self) -> None:
        with screen.writing():
            self._renderer.close()


def default_system_message(working_dir: Path) -> str:
    """What the model is told first when it has tools. The directory is data, so it is quoted as JSON."""
    directory = json.dumps(well_formed(str(working_dir)), ensure_ascii=False)
    return (
        "You are a helpful assistant. Your tools read files of the user's machine, and change nothing. "
        f"The working directory is {directory}. File tools take absolute paths."
    )


def _check(options: Options) -> None:
    if options.tool_choice not in TOOL_CHOICES:
        raise InputError(
            "tool-choice-invalid", f"--tool-choice is {', '.join(TOOL_CHOICES)}, not {options.tool_choice!r}"
        )
    if options.max_rounds < 1:
        raise InputError("max-rounds-invalid", "--max-rounds must be at least 1")


def _turns(messages: Sequence[str], stdin: TextIO) -> list[str] | None:
    """The user's messages, with stdin in its place; None for an interactive chat."""
    if not messages:
        return None if stdin.isatty() else [_read(stdin)]
    if messages.count(STDIN) > 1:
        raise InputError("stdin-twice", '"-" stands for stdin, which can be read only once')
    turns: list[str] = []
    for message in messages:
        if message == STDIN and turns:
            turns[-1] += f"\n\n{_read(stdin)}"
        elif message == STDIN:
            turns.append(_read(stdin))
        elif not message.strip():
            raise InputError("message-empty", "a message is empty")
        else:
            turns.append(message)
    return turns


def _read(stdin: TextIO) -> str:
    data = stdin.buffer.read(STDIN_BYTES + 1)
    if len(data) > STDIN_BYTES:
        raise InputError("stdin-too-long", "stdin holds more than 16 MiB, which is more than a model can read")
    text = data.decode("utf-8", "replace").rstrip("\n")
    if not text.strip():
        raise InputError("stdin-empty", "nothing came on stdin", 'give a message: pi prompt NAME "..."')
    return text


def _renderer(output: Output, stdout: TextIO, stderr: TextIO, *, echo: bool) -> Renderer:
    colour = stdout.isatty() and not os.environ.get("NO_COLOR")
    if output == "json":
        return JsonRenderer(stdout)
    if output == "quiet":
        return QuietRenderer(stdout, stderr, colour=colour)
    return TerminalRenderer(stdout, stderr, colour=colour, echo=echo)


class _Kept:
    """The conversation on disk: taken up, or begun."""

    def __init__(self, sessions: Sessions, model: str, working_dir: Path, *, continue_last: bool) -> None:
        self._sessions = sessions
        self.history: list[Message] = []
        directory = Path(os.path.realpath(working_dir))
        self.session = sessions.new(directory, model)
        if continue_last:
            last = sessions.last(directory)
            if last is None:
                raise InputError(
                    "no-conversation", "there is no conversation of this directory to continue", "leave out --continue"
                )
            self.history = sessions.history(last)
            self.session = replace(last, model=model)

    def save(self, renderer: Renderer) -> None:
        """Keeps what was said so far. A disk that is full ends no conversation."""
        if not self.history:
            return
        try:
            self._sessions.save(self.session, self.history)
        except OSError as error:
            renderer.show(Notice(f"this conversation is not kept: {error.strerror}"))


def _hold(agent: Agent, turns: Sequence[str], renderer: Renderer, kept: _Kept) -> int:
    exit_code = 0
    for message in turns:
        try:
            end = agent.turn(message)
        finally:
            kept.save(renderer)
        if end.reason == "interrupted":
            raise Interrupted("interrupted", "stopped")
        if end.reason == "max_rounds":
            exit_code = 1
    renderer.close()
    return exit_code
