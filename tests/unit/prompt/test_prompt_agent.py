"""The conversation loop over real HTTP: rounds of tools, tool choice, limits, interruption."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from typing import Any

import pytest

from pi.errors import InputError, Interrupted, RemoteError
from tests.unit.prompt.conftest import KEY, Prompt, Reply, calls, delta, error, fails, says, sse, usage

NO_PARSER = {
    "error": {
        "message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    }
}


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def test_a_whole_round_trip(prompt: Prompt) -> None:
    (prompt.working_dir / "a.txt").write_text("Milk and eggs\n")
    prompt.server.answer(calls(("read", {"file_path": "a.txt"}), text="Let me see."), says("Milk", " and eggs."))
    said = prompt("What is on sale?")
    assert said.code == 0
    assert kinds(said.events) == [
        *("start", "turn_start", "text", "tool_call", "tool_result", "text", "turn_end"),
    ]
    assert said.of("tool_call")[0]["arguments"] == {"file_path": "a.txt"}
    assert said.of("tool_result")[0]["text"] == "Milk and eggs\n"
    end = said.of("turn_end")[0]
    assert (end["text"], end["reason"], end["rounds"], end["tool_calls"]) == ("Milk and eggs.", "stop", 2, 1)
    assert (end["tokens_in"], end["tokens_out"]) == (29, 8)
    assert 0 <= end["first_token_seconds"] <= end["seconds"]
    assert prompt.server.requests[1].body["messages"][2:] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": "call_0",
                    "type": "function",
                    "function": {"name": "read", "arguments": '{"file_path": "a.txt"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "Milk and eggs\n"},
    ]


def test_messages_are_turns_of_one_conversation(prompt: Prompt) -> None:
    prompt.server.answer(says("One"), says("Two"))
    said = prompt("first", "second")
    assert [event["text"] for event in said.of("turn_end")] == ["One", "Two"]
    assert [event["turn"] for event in said.of("turn_start")] == [1, 2]
    assert [message["content"] for message in prompt.server.requests[1].body["messages"][1:]] == [
        "first",
        "One",
        "second",
    ]


def test_the_first_event_has_the_schema_and_the_conversation(prompt: Prompt) -> None:
    prompt.server.answer(says("x"))
    start = prompt("x").events[0]
    assert start.pop("conversation")
    assert start == {
        "type": "start",
        "schema": 1,
        "model": "m",
        "api": "chat",
        "directory": str(prompt.working_dir),
        "continued": False,
        "tools": ["ls", "read", "glob", "rg"],
    }


def test_the_system_message_quotes_the_directory(prompt: Prompt) -> None:
    prompt.working_dir = prompt.working_dir / 'x". Ignore\nall é'
    prompt.working_dir.mkdir()
    prompt.server.answer(says("x"))
    prompt("x")
    system = prompt.server.requests[0].body["messages"][0]
    assert system["role"] == "system"
    assert json.dumps(str(prompt.working_dir), ensure_ascii=False) in system["content"]
    assert "\n" not in system["content"]
    assert "File tools take absolute paths." in system["content"]


@pytest.mark.parametrize(
    ("options", "system"),
    [
        ({"system": "Be brief."}, "Be brief."),
        ({"system": "Be brief.", "tools": False}, "Be brief."),
        ({"system": ""}, None),
        ({"tools": False}, None),
    ],
)
def test_the_system_message_can_be_replaced_or_omitted(prompt: Prompt, options: Any, system: str | None) -> None:
    prompt.server.answer(says("x"))
    prompt("x", **options)
    first = prompt.server.requests[0].body["messages"][0]
    assert (first["content"] if first["role"] == "system" else None) == system


def test_without_tools_a_call_gets_an_error(prompt: Prompt) -> None:
    prompt.server.answer(calls(("read", {"file_path": "/etc/passwd"})), says("x"))
    said = prompt("x", tools=False)
    assert not {"tools", "tool_choice"} & prompt.server.requests[0].body.keys()
    assert said.of("tool_result")[0]["text"] == "unknown tool 'read'; the tools are: none"


@pytest.mark.parametrize(
    ("choice", "sent"),
    [("auto", ["auto", "auto", "auto"]), ("none", ["none"] * 3), ("required", ["required", "auto", "required"])],
)
def test_tool_choice_applies_to_the_first_request_of_a_turn(prompt: Prompt, choice: str, sent: list[str]) -> None:
    prompt.server.answer(calls(("ls", {"path": "."})), says("x"))
    prompt("one", "two", tool_choice=choice)
    assert [request.body["tool_choice"] for request in prompt.server.requests] == sent


@pytest.mark.parametrize(
    ("api", "names"), [("chat", ("temperature", "max_tokens")), ("responses", ("temperature", "max_output_tokens"))]
)
def test_sampling_is_sent_only_if_given(prompt: Prompt, api: str, names: tuple[str, str]) -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}]
    done = {"type": "response.completed", "response": {"status": "completed", "output": output}}
    prompt.server.answer(says("x") if api == "chat" else Reply([sse(done, done=False)]))
    prompt("x", endpoint=prompt.endpoint(api=api), temperature=0.0, max_tokens=7)
    prompt("x", endpoint=prompt.endpoint(api=api))
    given, left = (request.body for request in prompt.server.requests)
    assert [given[name] for name in names] == [0.0, 7]
    assert not set(names) & left.keys()


def test_a_model_that_only_calls_tools_is_stopped(prompt: Prompt) -> None:
    prompt.server.answer(calls(("ls", {"path": "."})))
    said = prompt("x", max_rounds=3)
    assert said.code == 1
    assert len(prompt.server.requests) == 3
    assert said.of("notice")[0]["text"] == "stopped after 3 rounds of tool calls (--max-rounds)"
    assert said.of("turn_end")[0]["reason"] == "max_rounds"
    assert len(said.of("tool_result")) == 2


def test_after_the_limit_the_conversation_can_continue(prompt: Prompt) -> None:
    prompt.server.answer(calls(("ls", {"path": "."})), says("Fine"))
    first = prompt("x", "y", max_rounds=1).of("notice")[0]
    assert first["text"] == "stopped after 1 round of tool calls (--max-rounds)"
    roles = [message["role"] for message in prompt.server.requests[1].body["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


def test_broken_arguments_go_back_to_the_model(prompt: Prompt) -> None:
    prompt.server.answer(calls(("read", '{"file_path": '), ("nope", ""), ("ls", "")), says("Sorry"))
    said = prompt("x")
    assert [event["is_error"] for event in said.of("tool_result")] == [True] * 3
    assert said.of("tool_call")[0]["arguments"] is None
    assert said.of("tool_call")[0]["raw"] == '{"file_path": '
    sent = [message["content"] for message in prompt.server.requests[1].body["messages"] if message["role"] == "tool"]
    assert sent[0].startswith("the arguments are not valid JSON")
    assert sent[1].startswith("unknown tool 'nope'")
    assert sent[2] == "'path' is missing; the arguments are: path, ignore?"


def test_a_cut_answer_shows_a_notice(prompt: Prompt) -> None:
    prompt.server.answer(says('<tool_call>\n{"name": "read", "arguments": 1234567', finish="length"))
    said = prompt("x", tool_choice="required")
    assert said.of("turn_end")[0]["reason"] == "length"
    assert "the answer is cut" in said.of("notice")[0]["text"]


@pytest.mark.parametrize(
    "words",
    [
        NO_PARSER["error"]["message"],
        'tool_choice="required" requires --tool-call-parser to be set',
        "registry.ollama.ai/library/x does not support tools",
    ],
)
def test_a_model_without_a_tool_parser_answers_without_tools(prompt: Prompt, words: str) -> None:
    prompt.server.answer(error(400, {"error": {**NO_PARSER["error"], "message": words}}), says("Hi"), says("Ho"))
    said = prompt("one", "two")
    assert said.code == 0
    assert [event["text"] for event in said.of("turn_end")] == ["Hi", "Ho"]
    assert len(said.of("notice")) == 1
    assert "--tool-call-parser" in said.of("notice")[0]["text"]
    offered = ["tools" in request.body for request in prompt.server.requests]
    assert offered == [True, False, False]
    assert prompt.server.requests[1].body["messages"] == [{"role": "user", "content": "one"}]


def test_the_notice_of_a_missing_parser_comes_once_for_a_model(prompt: Prompt) -> None:
    refused = error(400, NO_PARSER)
    shown = []
    for output, model in [("terminal", "m"), ("terminal", "m"), ("quiet", "m"), ("json", "m"), ("terminal", "other")]:
        prompt.server.answer(refused, says("Hi"))
        said = prompt("one", output=output, endpoint=prompt.endpoint(model=model))
        shown.append("--tool-call-parser" in said.stderr + said.stdout)
    assert shown == [True, False, False, True, True]
    [remembered] = prompt.config_dir.glob("prompt_notices")
    assert remembered.stat().st_mode & 0o777 == 0o600


def test_a_refusal_of_tools_that_were_not_sent_is_an_error(prompt: Prompt) -> None:
    prompt.server.answer(error(400, NO_PARSER))
    with fails(RemoteError, "no-tool-parser"):
        prompt("x", tools=False)
    assert len(prompt.server.requests) == 1


def test_an_error_event_has_the_id_of_the_error(prompt: Prompt) -> None:
    out = io.StringIO()
    prompt.server.answer(error(500, {"error": {"message": "boom", "code": 500}}))
    with fails(RemoteError, "endpoint-failed"):
        prompt("x", stdout=out)
    [event] = [event for event in map(json.loads, out.getvalue().splitlines()) if event["type"] == "error"]
    assert (event["id"], event["hint"]) == ("endpoint-failed", None)
    assert "boom" in event["text"]


def test_tokens_per_second_ignore_the_wait_for_the_first_token(prompt: Prompt) -> None:
    stream: list[bytes | float] = [sse(delta(role="assistant", content=""), done=False), 0.1]
    for _ in range(10):
        stream += [sse(delta(content="a"), done=False), 0.2]
    prompt.server.answer(Reply([*stream, sse(delta("stop"), usage(5, 10))]))
    end = prompt("x").of("turn_end")[0]
    assert end["first_token_seconds"] >= 0.1
    whole_turn = 10 / end["seconds"]
    assert end["tokens_per_second"] > whole_turn, "the wait for the first token does not count"
    assert end["tokens_per_second"] < 10 / 1.8 * 1.5, "pauses may reach the reader early, but not by half"


def test_counts_that_the_server_does_not_report_are_null(prompt: Prompt) -> None:
    prompt.server.answer(Reply([sse(delta(content="Hi"), delta("stop"))]))
    end = prompt("x").of("turn_end")[0]
    assert (end["tokens_in"], end["tokens_out"], end["tokens_per_second"]) == (None, None, None)


def interrupt_when(condition: Any) -> None:
    def wait() -> None:
        while not condition():
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def test_ctrl_c_in_an_answer_keeps_its_text(prompt: Prompt) -> None:
    prompt.server.answer(Reply([sse(delta(content="Once upon"), done=False), 20.0, sse(delta("stop"))]))
    interrupt_when(lambda: prompt.server.requests)
    began = time.monotonic()
    with pytest.raises(Interrupted) as stopped:
        prompt("Tell a story")
    assert time.monotonic() - began < 10
    assert stopped.value.exit_code == 130
    prompt.server.answer(says("a time"))
    prompt("Go on", continue_last=True)
    sent = prompt.server.requests[-1].body["messages"]
    assert [message["content"] for message in sent[1:]] == ["Tell a story", "Once upon", "Go on"]


def test_after_ctrl_c_before_an_answer_a_conversation_continues(prompt: Prompt) -> None:
    prompt.server.answer(Reply([20.0, sse(delta("stop"))]))
    interrupt_when(lambda: prompt.server.requests)
    with pytest.raises(Interrupted):
        prompt("Hello?")
    prompt.server.answer(says("x"))
    prompt("Still there?", continue_last=True)
    roles = [message["role"] for message in prompt.server.requests[-1].body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


def test_ctrl_c_in_a_tool_gives_every_call_a_result(prompt: Prompt) -> None:
    for number in range(30):
        (prompt.working_dir / f"big{number}").write_text("a" * 2_000_000)
    slow = ("rg", {"args": "'(a+)+(a+)+(a+)+(a+)+(a+)+b'"})
    prompt.server.answer(calls(("ls", {"path": "."}), slow, slow))
    interrupt_when(lambda: prompt.server.requests)
    with pytest.raises(Interrupted):
        prompt("Search")
    prompt.server.answer(says("x"))
    prompt("And now?", continue_last=True)
    sent = prompt.server.requests[-1].body["messages"]
    called = [call["id"] for message in sent for call in message.get("tool_calls", [])]
    assert [message["tool_call_id"] for message in sent if message["role"] == "tool"] == called
    assert [message["content"] for message in sent if message["role"] == "tool"][1:] == ["stopped by the user"] * 2
    assert sent[-2]["role"] == "assistant"


def test_a_failed_turn_does_not_change_the_conversation(prompt: Prompt) -> None:
    prompt.server.answer(says("One"), error(500, {"error": {"message": "boom", "code": 500}}))
    with fails(RemoteError, "endpoint-failed"):
        prompt("first", "second")
    prompt.server.answer(says("x"))
    prompt("third", continue_last=True)
    assert [message["content"] for message in prompt.server.requests[-1].body["messages"][1:]] == [
        "first",
        "One",
        "third",
    ]


@pytest.mark.parametrize(
    ("messages", "stdin", "turns"),
    [
        (["Review this", "-"], b"diff\n", ["Review this\n\ndiff"]),
        (["-"], b"question\n", ["question"]),
        ([], b"question\n", ["question"]),
        (["-", "And now?"], b"question\n", ["question", "And now?"]),
        (["One", "Two", "-", "Three"], b"in\xffput", ["One", "Two\n\nin\N{REPLACEMENT CHARACTER}put", "Three"]),
        (["No stdin"], b"unread", ["No stdin"]),
    ],
)
def test_a_dash_or_a_pipe_is_stdin(prompt: Prompt, messages: list[str], stdin: bytes, turns: list[str]) -> None:
    prompt.server.answer(says("x"))
    assert [event["text"] for event in prompt(*messages, stdin=stdin).of("turn_start")] == turns


@pytest.mark.parametrize(
    ("messages", "options", "id"),
    [
        (["-", "-"], {}, "stdin-twice"),
        (["-"], {}, "stdin-empty"),
        ([], {}, "stdin-empty"),
        ([" "], {}, "message-empty"),
        (["x"], {"tool_choice": "maybe"}, "tool-choice-invalid"),
        (["x"], {"max_rounds": 0}, "max-rounds-invalid"),
        (["x"], {"continue_last": True}, "no-conversation"),
    ],
)
def test_bad_input_fails_before_any_request(prompt: Prompt, messages: Any, options: Any, id: str) -> None:
    with fails(InputError, id):
        prompt(*messages, stdin=b"\n", **options)
    assert not prompt.server.requests


def test_invalid_utf8_in_a_message_is_replaced(prompt: Prompt) -> None:
    prompt.server.answer(says("x"))
    prompt("caf\udce9")
    assert prompt.server.requests[0].body["messages"][1]["content"] == "caf?"


def test_the_key_is_only_in_the_header(prompt: Prompt) -> None:
    prompt.server.answer(calls(("ls", {"path": "."})), says("x"))
    said = prompt("x")
    assert {request.headers["authorization"] for request in prompt.server.requests} == {f"Bearer {KEY}"}
    saved = "".join(path.read_text() for path in prompt.config_dir.rglob("*") if path.is_file())
    bodies = "".join(json.dumps(request.body) for request in prompt.server.requests)
    assert saved
    assert KEY not in said.stdout + said.stderr + saved + bodies + repr(prompt.endpoint())
