"""The conversation loop: send a message, then results of tool calls, until the model answers."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from pi.errors import PiError, Signalled
from pi.prompt import chat_completions, endings, notices, responses, schema
from pi.prompt.answer import Answer
from pi.prompt.brakes import Brake
from pi.prompt.ceilings import AnswerMeter, check_conversation
from pi.prompt.client import Client
from pi.prompt.endpoint import Endpoint
from pi.prompt.events import Error, Event, Notice, ToolCall, ToolResult, TurnEnd, TurnStart
from pi.prompt.history import AssistantMessage, Call, Message, ToolMessage, UserMessage
from pi.prompt.inline_thinking import Piece, Splitter, TextWasThinking
from pi.prompt.markup import text_call
from pi.prompt.refusals import ContextOverflowError, HabitError, NoToolParserError, overflow
from pi.prompt.sendable import Habits, sendable
from pi.prompt.tools import Toolbox
from pi.text import count, well_formed


@dataclass(frozen=True)
class Sampling:
    """Sampling of an answer; None leaves a value to the server."""

    temperature: float | None = None
    max_tokens: int | None = None


@dataclass
class _Turn:
    """Counts of a running turn; times are seconds of `time.monotonic`."""

    began: float = field(default_factory=time.monotonic)
    rounds: int = 0
    tool_calls: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    first_token: float | None = None
    generating_seconds: float = 0.0
    text: str = ""

    def count(self, answer: Answer, first: float | None, last: float | None) -> None:
        """Add a request: the server's counts, and the times of first and last token."""
        if first is not None and last is not None:
            self.first_token = self.first_token or first
            self.generating_seconds += last - first
        self.tokens_in = _sum(self.tokens_in, answer.tokens_in)
        self.tokens_out = _sum(self.tokens_out, answer.tokens_out)

    def end(self, reason: str) -> TurnEnd:
        speed = None
        if self.tokens_out and self.generating_seconds > 0.001:
            speed = round(self.tokens_out / self.generating_seconds, 1)
        return TurnEnd(
            reason=reason,
            text=self.text,
            rounds=self.rounds,
            tool_calls=self.tool_calls,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            first_token_seconds=None if self.first_token is None else round(self.first_token - self.began, 3),
            tokens_per_second=speed,
            seconds=round(time.monotonic() - self.began, 3),
        )


class Agent:
    """Holds a conversation with one model, and passes each event to `show` at once.

    `system` is the system message while the model has tools, `system_without_tools` while it has none. A
    `tool_choice` other than "none" applies only to the first request of a turn; after that the model chooses.
    `history` contains the messages so far, and those of each turn that succeeds.
    `is_news` returns whether to show the notice that the model has no tool parser.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client: Client,
        toolbox: Toolbox,
        show: Callable[[Event], None],
        *,
        history: list[Message] | None = None,
        system: str | None = None,
        system_without_tools: str | None = None,
        tool_choice: str = "auto",
        max_rounds: int = 50,
        sampling: Sampling | None = None,
        is_news: Callable[[str], bool] = lambda text: True,
    ) -> None:
        self.history = history if history is not None else []
        self._api: ModuleType = responses if endpoint.api == "responses" else chat_completions
        self._endpoint = endpoint
        self._client = client
        self._all_tools = self._toolbox = toolbox
        self._show = show
        self.system = system
        self.system_without_tools = system_without_tools
        self._tool_choice = tool_choice
        self._max_rounds = max_rounds
        self._sampling = sampling or Sampling()
        self._turns = itertools.count(1)
        self._is_news = is_news
        self._offered = frozenset(tool.name for tool in toolbox.tools)
        self._habits = Habits()
        self._lone_end: str | None = None
        self._reported: set[str] = set()

    def use(self, endpoint: Endpoint, client: Client) -> None:
        """Talk to another model from now on, in the same conversation."""
        self._api = responses if endpoint.api == "responses" else chat_completions
        self._endpoint, self._client = endpoint, client
        self._toolbox = self._all_tools
        self._habits, self._lone_end = Habits(), None
        self._reported.clear()

    def system_message(self) -> str | None:
        """Return the system message of the next request."""
        return self.system if self._toolbox.tools else self.system_without_tools

    def turn(self, message: str) -> TurnEnd:
        """Send a message and run all rounds until the answer.

        Ctrl+C ends the turn with reason "interrupted".

        Raises:
            PiError: if the turn failed.
            Signalled: after a signal other than Ctrl+C's, which ends pi, not only the turn.
        """
        before = len(self.history)
        turn = _Turn()
        self._habits = replace(self._habits, max_tokens=None)  # how much fits depends on the messages
        self._show(TurnStart(next(self._turns), message))
        self.history.append(UserMessage(well_formed(message)))
        try:
            end = turn.end(self._rounds(turn))
        except KeyboardInterrupt as stop:
            self._stop("stopped by the user", turn.text)
            end = turn.end("interrupted")
            if isinstance(stop, Signalled):
                self._show(end)
                raise
        except PiError as error:
            del self.history[before:]
            self._show(Error(error.message, error.hint, error.id))
            self._show(turn.end("error"))
            raise
        self._show(end)
        return end

    def _rounds(self, turn: _Turn) -> str:
        """Send requests until an answer has no tool calls; return why the turn ended."""
        brake = Brake()
        while True:
            check_conversation(self.history)
            turn.rounds += 1
            turn.text = ""
            answer = self._ask(turn)
            message = answer.message()
            if answer.finish in endings.CUT:
                self._show(Notice(endings.CUT[answer.finish]))
            self._report(message, answer)
            if error := endings.failure(answer, message):
                raise self._client.failed(error)
            self.history.append(message)
            if not message.calls:
                return "stop" if answer.finish in (None, *endings.CALLS) else str(answer.finish)
            turn.tool_calls += len(message.calls)
            for call in message.calls:
                self._show(_shown(call))
            if turn.rounds >= self._max_rounds:
                self._show(Notice(f"stopped after {count(turn.rounds, 'round')} of tool calls (--max-rounds)"))
                self._stop("not run: the limit of rounds is reached")
                return "max_rounds"
            self._run(message.calls, brake)
            if brake.reason:
                self._show(Notice(f"stopped: {brake.reason}"))
                self._stop("stopped: no progress")
                return "loop"

    def _run(self, calls: Sequence[Call], brake: Brake) -> None:
        """Run the calls of a message and add their results."""
        waiting = iter(calls)
        brake.begin_round([tool.name for tool in self._toolbox.tools])

        def add(result: ToolMessage, seconds: float) -> None:
            word = brake.word(next(waiting), result)
            self._add_result(replace(result, text=result.text + word) if word else result, seconds)

        self._toolbox.run(calls, add)

    def _report(self, message: AssistantMessage, answer: Answer) -> None:
        """Tell the user what the server left unread: tool calls and thinking in the text."""
        if not message.calls and self._offered:
            found = text_call(message.text, self._offered) or text_call(message.thinking, self._offered)
            if found:
                self._notify(f"call {found.parsers}", notices.text_call(self._endpoint, found))
        end = answer.inline.end
        if end and not answer.thinking and "".join(answer.inline_thinking).strip():
            self._lone_end = end if answer.inline.lone_end or self._lone_end == end else None
            self._notify(f"thinking {end}", notices.inline_thinking(self._endpoint, answer.inline))

    def _notify(self, about: str, text: str) -> None:
        """Show a notice, once for a model."""
        if about not in self._reported:
            self._reported.add(about)
            self._show(Notice(text))

    def _ask(self, turn: _Turn) -> Answer:
        """Return the answer to a request; change the form of requests as far as the server wants another."""
        is_limited = False
        while True:
            try:
                return self._send(turn)
            except NoToolParserError:
                if not self._toolbox.tools:
                    raise
                self._toolbox = self._toolbox.emptied()
                if self._is_news(notice := notices.no_tool_parser(self._endpoint)):
                    self._show(Notice(notice))
            except HabitError as error:
                limits = error.habit == "max_tokens"
                if (limits and is_limited) or not self._adapt(error):
                    raise
                is_limited = is_limited or limits

    def _adapt(self, error: HabitError) -> bool:
        """Change a habit; return whether the next request is another one."""
        before = self._request()
        for changes in _steps(error):
            self._habits = replace(self._habits, **changes)
            if self._request() != before:
                self._show(Notice(error.notice))
                return True
        return False

    def _send(self, turn: _Turn) -> Answer:
        answer = Answer(self._offered, inline=Splitter(self._lone_end))
        try:
            self._receive(self._request(), answer, turn)
        except ContextOverflowError as error:
            raise self._with_count(error) from None
        finally:
            turn.text = answer.text()
        if answer.finish is None:
            raise self._client.died(_pieces(answer))
        return answer

    def _request(self) -> dict[str, Any]:
        tools = self._toolbox.tools
        first_of_turn = isinstance(self.history[-1], UserMessage)
        system, history = sendable(self.system_message(), self.history, self._habits)
        body: dict[str, Any] = self._api.request(
            system,
            history,
            tools,
            self._tool_choice if first_of_turn or self._tool_choice == "none" else "auto",
        )
        return body | self._sampled()

    def _sampled(self) -> dict[str, Any]:
        """Return the fields for sampling: those that the user set, or the server wants."""
        limits = [limit for limit in (self._sampling.max_tokens, self._habits.max_tokens) if limit is not None]
        name = "max_completion_tokens" if self._habits.max_completion_tokens else self._api.MAX_TOKENS
        wanted = {"temperature": self._sampling.temperature, name: min(limits, default=None)}
        return {name: value for name, value in wanted.items() if value is not None}

    def _receive(self, body: dict[str, Any], answer: Answer, turn: _Turn) -> None:
        """Read a whole stream into `answer`. Its loop runs for every token."""
        first = last = None
        read = self._api.read
        pending: list[Piece] = []
        meter = AnswerMeter(answer)

        def show() -> None:
            pieces, pending[:] = _joined(pending), []
            for piece in pieces:
                self._show(_as_event(piece))

        try:
            with contextlib.closing(self._client.stream(body, before_wait=show, amount=meter.amount)) as stream:
                for item in stream:
                    pieces = read(item, answer)
                    meter.add(pieces)
                    if pieces or answer.calls:
                        last = time.monotonic()
                        first = first or last
                    pending += pieces
        finally:
            pending += answer.close()
            turn.count(answer, first, last)
            show()

    def _with_count(self, error: ContextOverflowError) -> ContextOverflowError:
        """Return the error with the exact excess if the server can count tokens."""
        if error.exact:
            return error
        body = chat_completions.request(
            *sendable(self.system_message(), self.history, self._habits), self._toolbox.tools, "auto"
        )
        counted = self._client.count_tokens(body["messages"], body.get("tools"))
        if counted is None or counted.tokens <= counted.context:
            return error
        return overflow(counted.context, counted.tokens, self._endpoint)

    def _add_result(self, message: ToolMessage, seconds: float) -> None:
        self.history.append(message)
        self._show(ToolResult(message.call_id, message.name, message.text, message.is_error, round(seconds, 3)))

    def _stop(self, why: str, text: str = "") -> None:
        """Complete the history so that it can continue: results, then an answer."""
        answered: set[str] = set()
        for message in reversed(self.history):
            if isinstance(message, UserMessage):
                break
            if isinstance(message, ToolMessage):
                answered.add(message.call_id)
            elif message.calls:
                open_calls = [call for call in message.calls if call.id not in answered]
                self.history += [ToolMessage(call.id, call.name, why, is_error=True) for call in open_calls]
                break
        if not isinstance(self.history[-1], AssistantMessage):
            self.history.append(AssistantMessage(text or f"({why})"))


def _steps(error: HabitError) -> list[dict[str, Any]]:
    """Return the changes of habits to try, one after the other, until a request differs."""
    if error.habit == "alternating":
        return [{"alternating": True, "system_in_user": True}, {"plain_tools": True}]
    return [{error.habit: error.value}]


def _as_event(piece: Piece) -> Event:
    return Notice(notices.text_was_thinking(piece.text)) if isinstance(piece, TextWasThinking) else piece


def _shown(call: Call) -> ToolCall:
    try:
        arguments = schema.parsed(call.arguments)
    except ValueError:
        return ToolCall(call.id, call.name, None, call.arguments)
    return ToolCall(call.id, call.name, arguments, call.arguments)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Join consecutive pieces of the same kind."""
    return [kind("".join(piece.text for piece in run)) for kind, run in itertools.groupby(pieces, type)]


def _pieces(answer: Answer) -> int:
    return len(answer.texts) + len(answer.thinking) + len(answer.inline_thinking)


def _sum(first: int | None, second: int | None) -> int | None:
    return second if first is None else first + (second or 0)
