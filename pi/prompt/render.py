"""Show a conversation's events: on a terminal, as JSON lines, or only the final text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TextIO

from pi import redaction
from pi.prompt.events import (
    Event,
    Notice,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    TurnEnd,
    TurnStart,
    as_json,
)
from pi.prompt.wrapping import Wrapper
from pi.text import Sanitizer, count, one_line, safe

RESULT_LINES = 5
"""Lines shown of a tool's result."""

LINE_WIDTH = 160
"""Characters shown of a line of a call or result."""

DIM, BOLD, RED, RESET = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"


class Renderer(Protocol):
    """Shows events to the user."""

    def show(self, event: Event) -> None:
        """Show an event at once."""

    def close(self) -> None:
        """Show the rest, after all turns have succeeded."""


class RedactingRenderer:
    """Passes events on without secrets.

    Text that may begin a secret waits for the next event.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._open: type[Text] | type[Thinking] | None = None
        self._redactor = redaction.stream()

    def show(self, event: Event) -> None:
        if isinstance(event, (Text, Thinking)):
            self._show_piece(event)
        else:
            self._close_stretch()
            self._renderer.show(replace(event, **redaction.secrets().hide_all(vars(event))))

    def close(self) -> None:
        self._close_stretch()
        self._renderer.close()

    def _show_piece(self, piece: Text | Thinking) -> None:
        if self._open is not type(piece):
            self._close_stretch()
            self._open, self._redactor = type(piece), redaction.stream()
        if text := self._redactor.feed(piece.text):
            self._renderer.show(piece if text == piece.text else type(piece)(text))

    def _close_stretch(self) -> None:
        if self._open and (rest := self._redactor.flush()):
            self._renderer.show(self._open(rest))
        self._open = None


class JsonRenderer:
    """Prints one JSON object a line, in ASCII, as documented in `pi.prompt.events`."""

    def __init__(self, stdout: TextIO) -> None:
        self._out = stdout

    def show(self, event: Event) -> None:
        self._out.write(json.dumps(as_json(event)) + "\n")
        self._out.flush()

    def close(self) -> None:
        self._out.flush()


class QuietRenderer:
    """Prints only the text of the last answer, at the end. Notices go to stderr."""

    def __init__(self, stdout: TextIO, stderr: TextIO, *, colour: bool) -> None:
        self._out = stdout
        self._err = stderr
        self._colour = colour
        self._text = ""

    def show(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._err.write(f"pi: {safe(event.text)}\n")
        elif isinstance(event, TurnEnd):
            self._text = event.text

    def close(self) -> None:
        self._out.write(safe(self._text.strip(), self._colour) + "\n")
        self._out.flush()


class TerminalRenderer:
    """Prints thinking, text, calls, shortened results and a closing line at once.

    Notices go to stderr. Without `colour`, headings separate thinking and answers. `echo` repeats the user's messages.
    `columns` returns the width at which words are wrapped, 0 for none.
    """

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        *,
        colour: bool,
        echo: bool,
        columns: Callable[[], int] = lambda: 0,
    ) -> None:
        self._wrapper = Wrapper(columns)
        self._out = stdout
        self._err = stderr
        self._colour = colour
        self._echo = echo
        self._open: type[Event] | None = None
        self._thought = False
        self._line_ended = False
        self._sanitizer = Sanitizer()
        self._calls: dict[str, str] = {}
        self._answered = False

    def show(self, event: Event) -> None:
        if isinstance(event, (Text, Thinking)):
            self._stream(type(event), event.text)
        else:
            self._close_stretch()
            self._show_whole(event)
        self._out.flush()

    def close(self) -> None:
        self._close_stretch()
        self._out.flush()

    def _stream(self, kind: type[Event], text: str) -> None:
        """Write a piece of text or thinking; skip spaces before its first word."""
        if self._open is not kind:
            text = text.lstrip()
            if not text:
                return
            self._close_stretch()
            self._open_stretch(kind)
        shown = self._sanitizer.feed(text)
        self._out.write(self._wrapper.feed(shown))
        self._line_ended = shown[-1:] == "\n" if shown else self._line_ended

    def _open_stretch(self, kind: type[Event]) -> None:
        thinking = kind is Thinking
        self._open = kind
        self._wrapper.new_line()
        self._sanitizer = Sanitizer(self._colour and not thinking)
        if self._colour:
            self._out.write(DIM if thinking else "")
        elif thinking or self._thought:
            self._out.write("[thinking]\n" if thinking else "[answer]\n")
        self._thought = thinking

    def _close_stretch(self) -> None:
        if self._open is not None:
            rest = self._wrapper.feed(self._sanitizer.flush())
            reset = RESET if self._colour and self._open is Thinking else ""
            self._out.write(rest + reset + ("\n" if rest or not self._line_ended else ""))
            self._open = None

    def _show_whole(self, event: Event) -> None:
        if isinstance(event, TurnStart) and self._echo:
            self._line("> " + one_line(event.text, LINE_WIDTH), BOLD)
        elif isinstance(event, ToolCall):
            self._show_call(event)
        elif isinstance(event, ToolResult):
            self._show_result(event)
        elif isinstance(event, Notice):
            self._out.flush()
            self._err.write(f"pi: {safe(event.text)}\n")
            self._err.flush()
        elif isinstance(event, TurnEnd) and event.reason != "error":
            self._line(f"[{closing_line(event)}]", DIM)

    def _show_call(self, event: ToolCall) -> None:
        if self._answered:
            self._calls, self._answered = {}, False
        arguments = event.raw if event.arguments is None else json.dumps(event.arguments, ensure_ascii=False)
        self._calls[event.id] = f"{one_line(event.name)} {one_line(arguments, LINE_WIDTH)}"
        self._line(f"▸ {self._calls[event.id]}", BOLD)

    def _show_result(self, event: ToolResult) -> None:
        """Print some lines of a result, below its call if there are several."""
        self._answered = True
        if len(self._calls) > 1:
            self._line(f"◂ {self._calls[event.id]}", DIM)
        lines = event.text.splitlines()
        for line in lines[:RESULT_LINES]:
            self._line(f"  {one_line(line, LINE_WIDTH)}", RED if event.is_error else DIM)
        if len(lines) > RESULT_LINES:
            self._line(f"  … {count(len(lines) - RESULT_LINES, 'more line')}", DIM)

    def _line(self, text: str, style: str) -> None:
        self._out.write(self._styled(text, style) + "\n")

    def _styled(self, text: str, style: str) -> str:
        return f"{style}{text}{RESET}" if self._colour else text


def closing_line(end: TurnEnd) -> str:
    """Describe tokens, times and calls of a turn; omit what the server did not report."""
    words = [] if end.reason == "stop" else [one_line(end.reason).replace("_", " ")]
    if end.tokens_in is not None and end.tokens_out is not None:
        words.append(f"{count(end.tokens_in, 'token')} in, {end.tokens_out:,} out")
    if end.first_token_seconds is not None:
        words.append(f"first token {end.first_token_seconds:.2f} s")
    if end.tokens_per_second is not None:
        words.append(f"{end.tokens_per_second:g} tokens/s")
    words.append(count(end.tool_calls, "tool call"))
    return ", ".join(words)
