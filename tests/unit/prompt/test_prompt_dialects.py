"""Streams of real dialects, replayed over real HTTP byte by byte (long ones in threes).

The server code of vLLM 0.32 made the files in streams/ from the output of each family's models. Those of Chat
Completions were recorded by tests/e2e/speak_by_vllm.py; tests/e2e/test_dialects.py compares them with the installed
vLLM. Those of the Responses API follow entrypoints/openai/responses/streaming_events.py.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pi.errors import RemoteError
from pi.prompt import chat_completions, responses
from pi.prompt.answer import Answer
from pi.prompt.client import Client
from pi.prompt.sse import EVENT_BYTES, EventDecoder
from tests.unit.prompt.conftest import STREAMS, Prompt, Reply, delta, fails, recorded, says, sse, usage

READ = ("read", {"file_path": "/srv/a.txt"})
READ_5 = ("read", {"file_path": "/srv/a.txt", "limit": 5})

# recording: thinking, text, calls, finish, tokens out
DIALECTS: dict[str, tuple[str, str, list[tuple[str, Any]], str, int]] = {
    "qwen-hermes-two-calls": ("", "I will look.\n", [READ_5, ("ls", {"path": "/srv/é"})], "tool_calls", 141),
    "qwen3-thinking-call": ("The user wants a file. ✅", "\n\n", [("glob", {"pattern": "**/*.py"})], "tool_calls", 90),
    "qwen3-coder-xml": ("", "Reading.\n", [READ_5], "tool_calls", 120),
    "hermes-broken-json": ("", "", [("read", '{"file_path": "/srv/a.txt"')], "tool_calls", 61),
    "hermes-cut-arguments": ("", "", [("read", '{"file_path": "' + "1234567890" * 4)], "length", 87),
    "kimi-k2-two-calls": ("Two files.", "Let me see.", [READ, ("rg", {"args": "-n TODO"})], "tool_calls", 108),
    "glm-4.7-call": ("I should list it.", "Listing.", [READ_5], "tool_calls", 66),
    "gpt-oss-call": ("Need to read the file.", "Let me look.", [READ], "tool_calls", 44),
    "deepseek-r1-thinking": ("Okay, two and two.\nThat is four.", "\n\nThe answer is 4.", [], "stop", 52),
    "deepseek-v3.1-call": ("A file.", "Let me look.", [READ], "tool_calls", 57),
    "deepseek-v3.2-two-calls": ("", "I will look.\n\n", [READ_5, ("ls", {"path": "/srv/é"})], "tool_calls", 296),
    "deepseek-v3.2-thinking-call": (
        "Two files.",
        "Let me see.\n\n",
        [READ_5, ("ls", {"path": "/srv/é"})],
        "tool_calls",
        306,
    ),
    "responses-kimi-two-calls": ("Two files.", "Let me see.", [READ, ("rg", {"args": "-n TODO"})], "stop", 32),
    "responses-gpt-oss-call": ("Need to read the file.", "", [READ], "stop", 31),
    "responses-gpt-oss-empty-call": ("Empty call.", "", [("ls", {})], "stop", 9),
    "responses-gpt-oss-text": ("Simple.", "The answer is 4.", [], "stop", 9),
}


def api_of(name: str) -> Any:
    return responses if name.startswith("responses-") else chat_completions


def arguments_of(written: str) -> Any:
    try:
        return json.loads(written or "{}")
    except ValueError:
        return written


def received(name: str, pieces: list[bytes]) -> Answer:
    decoder, answer = EventDecoder(), Answer()
    for piece in pieces:
        for item in decoder.feed(piece):
            api_of(name).read(item, answer)
    return answer


def summary(answer: Answer) -> tuple[str, str, list[tuple[str, Any]], str | None, int | None]:
    message = answer.message()
    calls = [(call.name, arguments_of(call.arguments)) for call in message.calls]
    return message.thinking.strip(), message.text, calls, answer.finish, answer.tokens_out


def test_every_recording_has_a_case() -> None:
    assert {path.stem for path in STREAMS.glob("*.sse")} == set(DIALECTS)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_decoded(name: str) -> None:
    answer = received(name, [recorded(name)])
    assert summary(answer) == DIALECTS[name]
    assert all(call.id for call in answer.message().calls)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_may_be_split_anywhere(name: str) -> None:
    stream = recorded(name)
    whole = received(name, [stream])
    for position in range(0, len(stream), len(stream) // 250 or 1):
        assert received(name, [stream[:position], stream[position:]]) == whole
    assert received(name, [stream[n : n + 1] for n in range(len(stream))]) == whole


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_arrives_over_http_byte_by_byte(prompt: Prompt, client: Any, name: str) -> None:
    stream = recorded(name)
    size = 1 if len(stream) < 6000 else 3
    prompt.server.answer(Reply([stream[n : n + size] for n in range(0, len(stream), size)]))
    answer = Answer()
    line: Client = client(api="responses" if name.startswith("responses-") else "chat")
    request: dict[str, Any] = {"messages": []} if api_of(name) is chat_completions else {"input": "x"}
    for item in line.stream(request):
        api_of(name).read(item, answer)
    assert summary(answer) == DIALECTS[name]


def test_unicode_is_whole_when_its_bytes_come_one_by_one(prompt: Prompt) -> None:
    stream = sse(delta(content="✅ é 漢"), delta("stop"))
    stream = stream.replace(b"\\u2705", "✅".encode()).replace(b"\\u00e9", "é".encode())
    prompt.server.answer(Reply([stream[n : n + 1] for n in range(len(stream))]))
    assert prompt("x").of("turn_end")[0]["text"] == "✅ é 漢"


# name, chunks of a stream, expected: thinking, text, calls (id, name, arguments), finish
ODDITIES: list[tuple[str, list[dict[str, Any]], tuple[str, str, list[tuple[str, str, str]], str | None]]] = [
    ("the older name of thinking", [delta(reasoning_content="a"), delta(reasoning_content="b")], ("ab", "", [], None)),
    ("both names of thinking at once", [delta(reasoning="a", reasoning_content="a")], ("a", "", [], None)),
    ("nulls everywhere", [delta(content=None, reasoning=None, tool_calls=None, role=None)], ("", "", [], None)),
    ("no choices", [{"choices": []}, {"choices": None}, {}], ("", "", [], None)),
    (
        "things of another type",
        [{"choices": [7]}, {"choices": "x"}, delta(content=7, tool_calls=[None, 3])],
        ("", "", [], None),
    ),
    ("a finish reason that is unknown", [delta(content="a"), delta("abort")], ("", "a", [], "abort")),
    (
        "a finish reason of stop with a call, as with a named tool",
        [delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "ls", "arguments": "{}"}}]), delta("stop")],
        ("", "", [("c", "ls", "{}")], "stop"),
    ),
    (
        "a finish reason of length, text in place of the call",
        [delta(content='<tool_call>\n{"name": "read", "arguments": 12345'), delta("length")],
        ("", '<tool_call>\n{"name": "read", "arguments": 12345', [], "length"),
    ),
    (
        "text after a call",
        [
            delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "ls", "arguments": "{}"}}]),
            delta(content="t"),
        ],
        ("", "t", [("c", "ls", "{}")], None),
    ),
    (
        "name and arguments null in turn",
        [
            delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "ls", "arguments": None}}]),
            delta(tool_calls=[{"index": 0, "id": None, "function": {"name": None, "arguments": '{"a'}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '": 1}'}}]),
        ],
        ("", "", [("c", "ls", '{"a": 1}')], None),
    ),
    (
        "id and name repeated with every fragment",
        [
            delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "ls", "arguments": "{"}}]),
            delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "ls", "arguments": "}"}}]),
        ],
        ("", "", [("c", "ls", "{}")], None),
    ),
    (
        "interleaved fragments of two calls",
        [
            delta(
                tool_calls=[{"index": n, "id": f"c{n}", "function": {"name": "ls", "arguments": "{"}} for n in (0, 1)]
            ),
            delta(tool_calls=[{"index": n, "function": {"arguments": "}"}} for n in (1, 0)]),
        ],
        ("", "", [("c0", "ls", "{}"), ("c1", "ls", "{}")], None),
    ),
    (
        "two calls under the same index",
        [
            delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "ls", "arguments": "{"}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": "}"}}]),
            delta(tool_calls=[{"index": 0, "id": "b", "function": {"name": "rg", "arguments": "{"}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": "}"}}]),
        ],
        ("", "", [("a", "ls", "{}"), ("b", "rg", "{}")], None),
    ),
    (
        "no index at all",
        [
            delta(tool_calls=[{"id": "a", "function": {"name": "ls", "arguments": "{"}}]),
            delta(tool_calls=[{"function": {"arguments": "}"}}]),
            delta(tool_calls=[{"id": "b", "function": {"name": "rg", "arguments": "{}"}}]),
        ],
        ("", "", [("a", "ls", "{}"), ("b", "rg", "{}")], None),
    ),
    (
        "calls without ids get their own",
        [delta(tool_calls=[{"index": n, "function": {"name": "ls", "arguments": "{}"}} for n in (0, 1)])],
        ("", "", [("NEW", "ls", "{}"), ("NEW", "ls", "{}")], None),
    ),
    (
        "a repeated id gets another",
        [delta(tool_calls=[{"index": n, "id": "x", "function": {"name": "ls", "arguments": "{}"}} for n in (0, 1)])],
        ("", "", [("x", "ls", "{}"), ("NEW", "ls", "{}")], None),
    ),
    (
        "arguments as an object",
        [delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "ls", "arguments": {"path": "."}}}])],
        ("", "", [("c", "ls", '{"path": "."}')], None),
    ),
    (
        "a call that is nothing but an index",
        [delta(tool_calls=[{"index": 0}])],
        ("", "", [("NEW", "", "")], None),
    ),
    ("lone surrogates", [delta(content="a\ud800b")], ("", "a?b", [], None)),
]


@pytest.mark.parametrize(("chunks", "expected"), [pytest.param(*case[1:], id=case[0]) for case in ODDITIES])
def test_odd_chunks(chunks: list[dict[str, Any]], expected: Any) -> None:
    answer = Answer()
    for chunk in chunks:
        chat_completions.read(chunk, answer)
    message = answer.message()
    calls = [(re.sub(r"^[A-Za-z0-9]{9}$", "NEW", call.id), call.name, call.arguments) for call in message.calls]
    assert (message.thinking, message.text, calls, answer.finish) == expected


def test_a_whole_answer_that_was_not_streamed(prompt: Prompt) -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm."}
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    prompt.server.answer(
        Reply([json.dumps({**body, "usage": usage(3, 2)["usage"]}).encode()], content_type="application/json")
    )
    said = prompt("x")
    assert [(event["type"], event.get("text")) for event in said.events[2:]] == [
        ("thinking", "Hm."),
        ("text", "Hello"),
        ("turn_end", "Hello"),
    ]
    assert said.events[-1]["tokens_in"] == 3


def test_a_whole_response_that_was_not_streamed(prompt: Prompt) -> None:
    content = [{"type": "output_text", "text": "Hello", "annotations": []}]
    output = [{"type": "message", "id": "m", "role": "assistant", "content": content, "status": "completed"}]
    body = {
        "object": "response",
        "status": "incomplete",
        "output": output,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    prompt.server.answer(Reply([json.dumps(body).encode()], content_type="application/json"))
    end = prompt("x", endpoint=prompt.endpoint(api="responses")).of("turn_end")[0]
    assert (end["text"], end["reason"], end["tokens_out"]) == ("Hello", "length", 2)


@pytest.mark.parametrize(
    ("stream", "objects"),
    [
        pytest.param(b'data: {"a": 1}\n\n', [{"a": 1}], id="one event"),
        pytest.param(b'data:{"a": 1}\r\n\r\n', [{"a": 1}], id="no space, and CRLF"),
        pytest.param(b': ping\n\nevent: x\nid: 7\ndata: {"a": 1}\n\n', [{"a": 1}], id="comments and other fields"),
        pytest.param(b'data: {"a":\ndata: 1}\n\n', [{"a": 1}], id="data on two lines"),
        pytest.param(b'data: {"a": "\xff"}\n\n', [{"a": "\ufffd"}], id="bytes that are no UTF-8"),
        pytest.param(b"data: [DONE]\n\n", [{"done": True}], id="the end of Chat Completions"),
        pytest.param(b'data: {"a": 1}\n', [], id="an event that is not finished"),
        pytest.param(b'data:\n\ndata: \n\ndata: {"a": 1}\n\n', [{"a": 1}], id="empty events that keep it alive"),
        pytest.param(b'\xef\xbb\xbfdata: {"a": 1}\n\n', [{"a": 1}], id="a byte order mark"),
        pytest.param(b"\n\n\n", [], id="nothing"),
    ],
)
def test_server_sent_events(stream: bytes, objects: list[Any]) -> None:
    assert EventDecoder().feed(stream) == objects
    decoder = EventDecoder()
    assert [item for n in range(len(stream)) for item in decoder.feed(stream[n : n + 1])] == objects


@pytest.mark.parametrize("data", [b"{", b"7", b'"text"', b"null", b"[" * 100_000, b"<html>\x1b[2J</html>"])
def test_an_event_that_is_not_a_json_object_fails(data: bytes) -> None:
    with fails(RemoteError, "endpoint-event-invalid") as raised:
        EventDecoder().feed(b"data: " + data + b"\n\n")
    assert "\x1b" not in raised.value.message


def test_an_endless_event_fails() -> None:
    decoder = EventDecoder()
    with fails(RemoteError, "endpoint-event-too-long"):
        for _ in range(EVENT_BYTES // 2**20 + 1):
            decoder.feed(b"x" * 2**20)


def test_thinking_is_sent_back_only_with_calls(prompt: Prompt) -> None:
    call = {"index": 0, "id": "c", "function": {"name": "ls", "arguments": '{"path": "."}'}}
    thought = Reply([sse(delta(reasoning_content="Hm."), delta(tool_calls=[call]), delta("tool_calls"))])
    prompt.server.answer(
        thought, Reply([sse(delta(reasoning_content="So."), delta(content="Done"), delta("stop"))]), says("x")
    )
    prompt("look", "again")
    sent = prompt.server.requests[-1].body["messages"]
    assert [(message["role"], message.get("reasoning_content")) for message in sent] == [
        ("system", None),
        ("user", None),
        ("assistant", "Hm."),
        ("tool", None),
        ("assistant", None),
        ("user", None),
    ]
    assert all("reasoning" not in message for message in sent)


def test_the_responses_api_gets_the_whole_conversation(prompt: Prompt) -> None:
    (prompt.working_dir / "a.txt").write_text("Milk\n")
    text = Reply([recorded("responses-gpt-oss-text")])
    prompt.server.answer(Reply([recorded("responses-gpt-oss-empty-call")]), text, text)
    said = prompt("look", "again", endpoint=prompt.endpoint(api="responses"))
    assert [event["text"] for event in said.of("turn_end")] == ["The answer is 4."] * 2
    first, *_, last = prompt.server.requests
    assert first.path == "/v1/responses"
    assert first.body["store"] is False
    assert "working directory" in first.body["instructions"]
    assert first.body["tools"][0]["name"] == "ls"
    assert first.body["input"] == [{"role": "user", "content": "look"}]
    assert [(item.get("type"), item.get("role")) for item in last.body["input"]] == [
        (None, "user"),
        ("reasoning", None),
        ("function_call", None),
        ("function_call_output", None),
        (None, "assistant"),
        (None, "user"),
    ]
    assert last.body["input"][2] == {"type": "function_call", "call_id": "call_9", "name": "ls", "arguments": "{}"}
