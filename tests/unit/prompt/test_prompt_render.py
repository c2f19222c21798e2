"""The output of a conversation: on a terminal, in a pipe, as JSON, quiet, without foreign escapes."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi.prompt.events import (
    Error,
    Event,
    Notice,
    Start,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    TurnEnd,
    TurnStart,
    as_json,
)
from pi.prompt.render import JsonRenderer, QuietRenderer, TerminalRenderer, closing_line
from tests.unit.prompt.conftest import Prompt, Reply, Tty, calls, delta, says, sse, usage

END = TurnEnd("stop", "Four.", 2, 1, 1234, 56, 0.4213, 28.3, 3.0)
CALL = ToolCall("1", "read", {"file_path": "/srv/é"}, '{"file_path": "/srv/é"}')
NASTY = "a\x1b]0;title\x07b\x1b[2Jc\x1b]52;c;eA==\x1b\\d\x9b1me\x07\u202ef"


def shown(*events: Event, colour: bool = True, echo: bool = False) -> str:
    out = io.StringIO()
    renderer = TerminalRenderer(out, out, colour=colour, echo=echo)
    for event in events:
        renderer.show(event)
    renderer.close()
    return out.getvalue()


CONVERSATION: list[Event] = [
    TurnStart(1, "What is 2+2?"),
    Thinking("\n\nLet "),
    Thinking("me see."),
    CALL,
    ToolResult("1", "read", "one\ntwo\n", False, 0.1),
    Text("\n\nIt is "),
    Text("four.\n"),
    END,
]


def test_a_terminal_shows_the_parts_in_colours() -> None:
    assert shown(*CONVERSATION) == (
        "\x1b[2mLet me see.\x1b[0m\n"
        '\x1b[1m▸ read {"file_path": "/srv/é"}\x1b[0m\n'
        "\x1b[2m  one\x1b[0m\n\x1b[2m  two\x1b[0m\n"
        "It is four.\n"
        "\x1b[2m[1,234 tokens in, 56 out, first token 0.42 s, 28.3 tokens/s, 1 tool call]\x1b[0m\n"
    )


def test_a_pipe_gets_headings_between_the_parts() -> None:
    assert shown(*CONVERSATION, colour=False) == (
        "[thinking]\nLet me see.\n"
        '▸ read {"file_path": "/srv/é"}\n'
        "  one\n  two\n"
        "[answer]\nIt is four.\n"
        "[1,234 tokens in, 56 out, first token 0.42 s, 28.3 tokens/s, 1 tool call]\n"
    )


def test_an_answer_alone_has_no_heading() -> None:
    assert shown(Text("Hi"), colour=False) == "Hi\n"


def test_each_piece_is_written_at_once() -> None:
    out = io.StringIO()
    renderer = TerminalRenderer(out, out, colour=False, echo=False)
    renderer.show(Text("Hel"))
    assert out.getvalue() == "Hel"
    renderer.show(Text("lo"))
    assert out.getvalue() == "Hello"


def test_echo_repeats_the_messages() -> None:
    assert shown(TurnStart(2, "And\nthen?"), colour=False, echo=True) == "> And then?\n"
    assert shown(TurnStart(2, "And then?"), colour=False) == ""


def test_a_long_result_is_shortened_and_an_error_is_red() -> None:
    text = "\n".join(["x" * 500] * 3 + ["y"] * 1000)
    lines = shown(ToolResult("1", "rg", text, False, 0.1), colour=False).splitlines()
    assert len(lines) == 6
    assert lines[0] == "  " + "x" * 159 + "…"
    assert lines[-1] == "  … 998 more lines"
    assert shown(ToolResult("1", "rg", "x\n" * 6, False, 0.1), colour=False).splitlines()[-1] == "  … 1 more line"
    assert shown(ToolResult("1", "rg", "no", True, 0.1)) == "\x1b[31m  no\x1b[0m\n"


def test_results_of_several_calls_repeat_the_call() -> None:
    two: list[Event] = [ToolCall(id, "ls", {"path": id}, "") for id in ("a", "b")]
    one: list[Event] = [ToolCall("a", "rg", {}, "{}"), ToolResult("a", "rg", "none", False, 0.1)]
    results: list[Event] = [ToolResult(id, "ls", f"in {id}", False, 0.1) for id in ("a", "b")]
    assert shown(*two, *results, *one, colour=False) == (
        '▸ ls {"path": "a"}\n▸ ls {"path": "b"}\n'
        '◂ ls {"path": "a"}\n  in a\n◂ ls {"path": "b"}\n  in b\n'
        "▸ rg {}\n  none\n"
    )


def test_broken_arguments_are_shown_unchanged() -> None:
    assert shown(ToolCall("1", "read", None, '{"a\n": '), colour=False) == '▸ read {"a ":\n'


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (
            TurnEnd("stop", "", 1, 0, 5, 7, 0.5, 10.0, 1.0),
            "5 tokens in, 7 out, first token 0.50 s, 10 tokens/s, 0 tool calls",
        ),
        (TurnEnd("stop", "", 1, 1, 1, 1, None, None, 1.0), "1 token in, 1 out, 1 tool call"),
        (TurnEnd("stop", "", 1, 2, None, None, None, None, 1.0), "2 tool calls"),
        (TurnEnd("max_rounds", "", 1, 2, None, None, None, None, 1.0), "max rounds, 2 tool calls"),
        (TurnEnd("\x1b[2Jodd", "", 1, 0, None, None, None, None, 1.0), "odd, 0 tool calls"),
    ],
)
def test_the_closing_line_omits_unknown_values(end: TurnEnd, line: str) -> None:
    assert closing_line(end) == line


def hostile(text: str) -> list[Event]:
    """Return every event that can contain text of a model or a server."""
    return [
        TurnStart(1, text),
        Thinking(text),
        Text(text),
        ToolCall(text, text, {text: text}, text),
        ToolCall(text, text, None, text),
        ToolResult(text, text, text, False, 0.0),
        Notice(text),
        Error(text, text, text),
        TurnEnd(text, text, 1, 0, None, None, None, None, 0.0),
    ]


SGR = re.compile(r"\x1b\[[0-9;:]*m")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
escapes = st.text(st.sampled_from(list("\x1b[]P_\\0;1mJ\x07\x9b\x9d\u202e\r\nab")), max_size=30)


@given(escapes)
def test_only_colours_from_outside_reach_a_terminal(text: str) -> None:
    assert not CONTROLS.search(SGR.sub("", shown(*hostile(text), echo=True)))


@given(escapes)
def test_no_escapes_from_outside_reach_a_pipe(text: str) -> None:
    assert not CONTROLS.search(shown(*hostile(text), colour=False, echo=True))
    out, err = io.StringIO(), io.StringIO()
    quiet = QuietRenderer(out, err, colour=False)
    for event in hostile(text):
        quiet.show(event)
    quiet.close()
    assert not CONTROLS.search(out.getvalue() + err.getvalue())


@given(st.lists(escapes, max_size=5))
def test_an_escape_split_over_pieces_is_removed(pieces: list[str]) -> None:
    assert not CONTROLS.search(SGR.sub("", shown(*map(Text, pieces))))
    assert "\x1b" not in shown(*map(Thinking, pieces), colour=False)


def test_thinking_has_no_colours_of_its_own() -> None:
    assert shown(Thinking("\x1b[31mred")) == "\x1b[2mred\x1b[0m\n"


def test_a_colour_of_the_answer_ends_with_it() -> None:
    assert shown(Text("\x1b[31mred"), END).startswith("\x1b[31mred\x1b[0m\n\x1b[2m[")


DOCUMENTED: dict[type[Any], tuple[Event, dict[str, Any]]] = {
    Start: (
        Start(1, "id", "m", "chat", "/srv", False, ["ls"]),
        {"type": "start", "schema": 1, "conversation": "id", "model": "m", "api": "chat", "directory": "/srv",
         "continued": False, "tools": ["ls"]},
    ),
    TurnStart: (TurnStart(1, "x"), {"type": "turn_start", "turn": 1, "text": "x"}),
    Thinking: (Thinking("x"), {"type": "thinking", "text": "x"}),
    Text: (Text("x"), {"type": "text", "text": "x"}),
    ToolCall: (
        ToolCall("1", "ls", {}, "{}"),
        {"type": "tool_call", "id": "1", "name": "ls", "arguments": {}, "raw": "{}"},
    ),
    ToolResult: (
        ToolResult("1", "ls", "x", True, 0.5),
        {"type": "tool_result", "id": "1", "name": "ls", "text": "x", "is_error": True, "seconds": 0.5},
    ),
    Notice: (Notice("x"), {"type": "notice", "text": "x"}),
    Error: (Error("x", None, "it-failed"), {"type": "error", "text": "x", "hint": None, "id": "it-failed"}),
    TurnEnd: (
        END,
        {"type": "turn_end", "reason": "stop", "text": "Four.", "rounds": 2, "tool_calls": 1, "tokens_in": 1234,
         "tokens_out": 56, "first_token_seconds": 0.4213, "tokens_per_second": 28.3, "seconds": 3.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("event", "form"), DOCUMENTED.values(), ids=[kind.__name__ for kind in DOCUMENTED])
def test_the_json_form_is_stable(event: Event, form: dict[str, Any]) -> None:
    assert as_json(event) == form
    out = io.StringIO()
    JsonRenderer(out).show(event)
    assert json.loads(out.getvalue()) == form


def test_every_event_has_a_documented_form() -> None:
    assert set(DOCUMENTED) == set(Event.__args__)


def test_json_is_ascii_on_one_line_whatever_it_carries() -> None:
    out = io.StringIO()
    JsonRenderer(out).show(Text(NASTY + "\n✅"))
    assert out.getvalue().isascii()
    assert out.getvalue().count("\n") == 1
    assert not CONTROLS.search(out.getvalue())


def test_json_is_the_only_output(prompt: Prompt) -> None:
    prompt.server.answer(calls(("ls", {"path": "."})), Reply([sse(delta(content=NASTY), delta("length"), usage(1, 1))]))
    said = prompt("x", "y", output="json")
    assert [json.loads(line)["type"] for line in said.stdout.splitlines()]
    assert said.stderr == ""


def test_quiet_prints_only_the_last_answer(prompt: Prompt) -> None:
    prompt.server.answer(
        calls(("ls", {"path": "."}), text="Let me see."),
        says("First"),
        Reply([sse(delta(reasoning="Hm."), delta(content="\nSec"), delta(content="ond\x1b[2J\n"), delta("length"))]),
    )
    said = prompt("x", "y", output="quiet")
    assert said.stdout == "Second\n"
    assert said.stderr == "pi: the answer is cut: it reached the token limit or the end of the context\n"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals_without_no_color(
    prompt: Prompt, monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    prompt.server.answer(Reply([sse(delta(content="\x1b[31mred"), delta("stop"))]))
    assert ("\x1b" in prompt("x", stdout=Tty(), output="terminal").stdout) is coloured
    assert "\x1b" not in prompt("x", output="terminal").stdout


def test_an_ascii_terminal_gets_replacement_characters(prompt: Prompt) -> None:
    from pi.prompt.conversation import Options, run

    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    prompt.server.answer(says("✅ ok"))
    run(prompt.endpoint(), ["x"], Options(), config_dir=prompt.config_dir, working_dir=prompt.working_dir,
        stdin=io.TextIOWrapper(io.BytesIO()), stdout=out, stderr=Tty())  # fmt: skip
    out.seek(0)
    assert out.read().startswith("? ok\n")


def test_several_messages_are_repeated_above_their_answers(prompt: Prompt) -> None:
    prompt.server.answer(says("One"), says("Two"))
    lines = prompt("first", "second", output="terminal").stdout.splitlines()
    assert [line for line in lines if not line.startswith("[")] == ["> first", "One", "> second", "Two"]


def test_numbers_outside_json_do_not_break_the_output(prompt: Prompt) -> None:
    prompt.server.answer(calls(("read", '{"file_path": "a", "offset": NaN, "limit": 1e999}')), says("Sorry"))
    said = prompt("hi")

    def refuse(word: str) -> None:
        raise ValueError(word)

    lines = [json.loads(line, parse_constant=refuse) for line in said.stdout.splitlines()]
    [call] = [line for line in lines if line["type"] == "tool_call"]
    assert call["arguments"] is None
    assert "NaN" in call["raw"]
