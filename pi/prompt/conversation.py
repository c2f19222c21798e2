"""Hold a whole conversation of `pi prompt`, from its messages to an exit code."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TextIO

from pi import redaction, screen
from pi.errors import InputError, Interrupted
from pi.prompt.agent import Agent, Sampling
from pi.prompt.chat import chat, editor
from pi.prompt.client import IDLE_SECONDS, Client
from pi.prompt.endpoint import Endpoint
from pi.prompt.events import SCHEMA, Event, Notice, Start
from pi.prompt.history import Message
from pi.prompt.paths import PathPolicy
from pi.prompt.render import JsonRenderer, QuietRenderer, RedactingRenderer, Renderer, TerminalRenderer
from pi.prompt.said_once import SaidOnce
from pi.prompt.sessions import Sessions
from pi.prompt.tools import TOOLS, Toolbox
from pi.text import one_line, well_formed

Output = Literal["terminal", "json", "quiet"]

TOOL_CHOICES = ("auto", "none", "required")

STDIN = "-"

STDIN_BYTES = 16 * 1024 * 1024
"""Most bytes read from stdin; more would exceed any model's context."""


@dataclass(frozen=True)
class Options:
    """Options of a conversation.

    `tools` offers the file tools; `tool_choice` is "auto", "none" or "required" (for the first request of a
    turn). `system` replaces the system message. `allow_outside` lets the tools read outside the working
    directory. `temperature` and `max_tokens` (of one answer) are the server's choice if None. pi gives up an
    answer that pauses for `idle_seconds`.
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

    def __post_init__(self) -> None:
        """Raise InputError if `tool_choice` or `max_rounds` is invalid."""
        if self.tool_choice not in TOOL_CHOICES:
            choices = ", ".join(TOOL_CHOICES)
            raise InputError(
                "tool-choice-invalid", f"invalid --tool-choice {self.tool_choice!r}", f"use one of {choices}"
            )
        if self.max_rounds < 1:
            raise InputError("max-rounds-invalid", f"invalid --max-rounds {self.max_rounds}", "use 1 or more")


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
    """Hold a conversation, one turn for each message; without messages on a terminal, chat.

    A message "-" is the text on stdin: pi adds it to the message before, or sends it alone if it is first.
    Without messages, a pipe on stdin is the message. Returns 0, or 1 if the limit of rounds or a loop ended a turn.

    Raises:
        PiError: if a turn failed; Interrupted after Ctrl+C.
    """
    turns = _turns(messages, stdin)
    if turns is None and options.output != "terminal":
        raise InputError("chat-needs-message", "--json and --quiet need a message", 'use: pi prompt NAME "..."')
    for stream in (stdout, stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    saved = _Saved(Sessions(config_dir), endpoint.model, working_dir, continue_last=options.continue_last)
    redaction.add(endpoint.api_key)
    echo = turns is not None and len(turns) > 1
    renderer = RedactingRenderer(_Writing(_renderer(options.output, stdout, stderr, echo=echo)))
    policy = PathPolicy.of(working_dir, config_dir, allow_outside=options.allow_outside)
    toolbox = Toolbox(policy, TOOLS if options.tools else ())
    with contextlib.closing(Client(endpoint, idle_seconds=options.idle_seconds)) as client:
        agent = _agent(endpoint, client, toolbox, renderer, options, saved, policy, config_dir)
        renderer.show(_start(endpoint, options, saved, toolbox))
        if turns is None:
            reads = f", which reads {one_line(str(policy.root))}" if toolbox.tools else ""
            greeting = one_line(endpoint.model) + reads
            reader = editor(stdin, stdout if stdout.isatty() else stderr, config_dir / "prompt_history")
            with (
                contextlib.closing(reader),
                contextlib.closing(_Talk(agent, endpoint, renderer, saved, options)) as talk,
            ):
                chat(talk, reader, stderr, greeting)
            return 0
        return _run_turns(agent, turns, renderer, saved)


def _agent(
    endpoint: Endpoint,
    client: Client,
    toolbox: Toolbox,
    renderer: Renderer,
    options: Options,
    saved: _Saved,
    policy: PathPolicy,
    config_dir: Path,
) -> Agent:
    said = SaidOnce(config_dir)
    return Agent(
        endpoint,
        client,
        toolbox,
        renderer.show,
        history=saved.history,
        system=default_system_message(policy.root) if options.system is None else options.system,
        system_without_tools=options.system,
        tool_choice=options.tool_choice,
        max_rounds=options.max_rounds,
        sampling=Sampling(options.temperature, options.max_tokens),
        is_news=lambda text: options.output == "json" or said.is_new(endpoint.base_url, text),
    )


def _start(endpoint: Endpoint, options: Options, saved: _Saved, toolbox: Toolbox) -> Start:
    return Start(
        schema=SCHEMA,
        conversation=saved.session.id,
        model=endpoint.model,
        api=endpoint.api,
        directory=saved.session.directory,
        continued=options.continue_last,
        tools=[tool.name for tool in toolbox.tools],
    )


class _Writing:
    """Passes events to a renderer. Raises OutputError if its output cannot be written."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def show(self, event: Event) -> None:
        with screen.writing():
            self._renderer.show(event)

    def close(self) -> None:
        with screen.writing():
            self._renderer.close()


def default_system_message(working_dir: Path) -> str:
    """Return the system message of a model with tools; the directory is quoted as JSON."""
    directory = json.dumps(well_formed(str(working_dir)), ensure_ascii=False)
    return (
        "You are a helpful assistant. Your tools read files on the user's machine and change nothing. "
        f"The working directory is {directory}. File tools take absolute paths."
    )


def _turns(messages: Sequence[str], stdin: TextIO) -> list[str] | None:
    """Return the user's messages, with stdin in its place, or None for an interactive chat."""
    if not messages:
        return None if stdin.isatty() else [_read(stdin)]
    if messages.count(STDIN) > 1:
        raise InputError("stdin-twice", 'more than one "-"', "use it once: it stands for standard input")
    turns: list[str] = []
    for message in messages:
        if message == STDIN and turns:
            turns[-1] += f"\n\n{_read(stdin)}"
        elif message == STDIN:
            turns.append(_read(stdin))
        elif not message.strip():
            raise InputError(
                "message-empty", "a message is empty", 'use: pi prompt NAME "...", or - for standard input'
            )
        else:
            turns.append(message)
    return turns


def _read(stdin: TextIO) -> str:
    data = stdin.buffer.read(STDIN_BYTES + 1)
    if len(data) > STDIN_BYTES:
        raise InputError("stdin-too-long", "standard input is longer than 16 MiB, more than a model can read")
    text = data.decode("utf-8", "replace").rstrip("\n")
    if not text.strip():
        raise InputError("stdin-empty", "standard input is empty", 'use: pi prompt NAME "..."')
    return text


def _renderer(output: Output, stdout: TextIO, stderr: TextIO, *, echo: bool) -> Renderer:
    colour = stdout.isatty() and not os.environ.get("NO_COLOR")
    if output == "json":
        return JsonRenderer(stdout)
    if output == "quiet":
        return QuietRenderer(stdout, stderr, colour=colour)
    return TerminalRenderer(stdout, stderr, colour=colour, echo=echo, columns=_columns_of(stdout))


def _columns_of(stdout: TextIO) -> Callable[[], int]:
    """Return a function for the present width of a terminal; 0 if it is none."""

    def columns() -> int:
        try:
            return os.get_terminal_size(stdout.fileno()).columns
        except (OSError, ValueError):
            return 0

    return columns if stdout.isatty() else lambda: 0


class _Saved:
    """A conversation on disk, new or continued."""

    def __init__(self, sessions: Sessions, model: str, working_dir: Path, *, continue_last: bool) -> None:
        self._sessions = sessions
        self.history: list[Message] = []
        self._directory = Path(os.path.realpath(working_dir))
        self.session = sessions.new(self._directory, model)
        if continue_last:
            last = sessions.last(self._directory)
            if last is None:
                raise InputError("no-conversation", "no saved conversation of this directory", "remove --continue")
            self.history = sessions.history(last)
            self.session = replace(last, model=model)

    def begin(self) -> None:
        """Begin another conversation with the same model."""
        self.session = self._sessions.new(self._directory, self.session.model)

    def save(self, renderer: Renderer) -> None:
        """Save the messages so far, or show a notice if that fails."""
        if not self.history:
            return
        try:
            self._sessions.save(self.session, self.history)
        except OSError as error:
            renderer.show(Notice(f"cannot save this conversation: {error.strerror}"))


class _Talk:
    """The conversation of a chat, which may change its model and its system message."""

    def __init__(self, agent: Agent, endpoint: Endpoint, renderer: Renderer, saved: _Saved, options: Options) -> None:
        self.history = agent.history
        self._agent = agent
        self._endpoint = endpoint
        self._renderer = renderer
        self._saved = saved
        self._options = options
        self._clients = contextlib.ExitStack()

    @property
    def model(self) -> str:
        return self._endpoint.model

    @property
    def models(self) -> Sequence[str]:
        return self._endpoint.others

    @property
    def system(self) -> str | None:
        return self._agent.system_message()

    @system.setter
    def system(self, text: str | None) -> None:
        self._agent.system = self._agent.system_without_tools = text

    def turn(self, message: str) -> None:
        try:
            self._agent.turn(message)
        finally:
            self._saved.save(self._renderer)

    def clear(self) -> None:
        self.history.clear()
        self._saved.begin()

    def switch(self, model: str) -> None:
        if self._endpoint.switch is None:
            raise InputError("model-not-switchable", "this endpoint has one model", "start another pi prompt")
        endpoint = self._endpoint.switch(model)
        client = Client(endpoint, idle_seconds=self._options.idle_seconds)
        self._clients.enter_context(contextlib.closing(client))
        self._agent.use(endpoint, client)
        self._endpoint = endpoint
        self._saved.session = replace(self._saved.session, model=endpoint.model)

    def file_name(self) -> str:
        return f"conversation-{self._saved.session.id}.md"

    def close(self) -> None:
        self._clients.close()


def _run_turns(agent: Agent, turns: Sequence[str], renderer: Renderer, saved: _Saved) -> int:
    exit_code = 0
    for message in turns:
        try:
            end = agent.turn(message)
        finally:
            saved.save(renderer)
        if end.reason == "interrupted":
            raise Interrupted("interrupted", "stopped")
        if end.reason in ("max_rounds", "loop"):
            exit_code = 1
    renderer.close()
    return exit_code
