"""Clients with their own time-outs before a model that starts slowly."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from pi.door import house, stopped
from pi.door.starts import PAUSE_S, Ended
from tests.rig.patience import patient
from tests.unit.door.conftest import CHAT, Handler, Rig, open_door

PACE = 0.02
"""At this pace the door holds requests 4.8 s, and keeps streams open every 60 ms."""

OPTIONS = {"model": "org/qwen-8b"}

PING = b'event: ping\ndata: {"type": "ping"}\n\n'

COMMENT = b": qwen on dc1 is starting\n\n"


@dataclass(frozen=True)
class Client:
    """How long a client waits for bytes of a stream and for other answers, and how often it asks again, by default.

    `counts_comments` is False if its clock goes on until a whole event comes.
    """

    stream_s: float
    answer_s: float
    repeats: int
    longest_retry_s: float
    counts_comments: bool = True


CLIENTS = {
    "openai's and anthropic's SDKs, llm, aider, litellm": Client(600, 600, 2, 60),
    "claude code": Client(600, 600, 10, 60),
    "node's fetch (undici): opencode, continue, cline, qwen-code, pi-agent": Client(300, 300, 2, 60),
    "codex (stream_idle_timeout_ms, stream_max_retries)": Client(300, 300, 5, 60, counts_comments=False),
}
"""Of the clients of `pi connect`. Sources: `DEFAULT_TIMEOUT` and `_calculate_retry_timeout` of openai 3.57;
`headersTimeout` and `bodyTimeout` of undici 7; codex-rs `model_provider_info.rs`; API_TIMEOUT_MS and
CLAUDE_CODE_MAX_RETRIES of Claude Code's docs."""

HTTPX_S = 5
"""Time-out of httpx without one of its own, also for each piece of a stream."""


@pytest.mark.parametrize("client", CLIENTS.values(), ids=[*CLIENTS])
def test_the_door_answers_before_a_client_gives_up(client: Client) -> None:
    assert house.FIRST_KEEP_S < house.KEEP_S < min(client.stream_s, HTTPX_S) / 1.5
    assert client.answer_s / 1.2 > house.HOLD_S
    assert max(house.RETRY_S, PAUSE_S) < client.longest_retry_s, "it would ignore a longer Retry-After"
    longest_start_s = 720
    assert (client.repeats + 1) * house.HOLD_S >= longest_start_s, "a start of 12 minutes"
    assert client.counts_comments or (client.repeats + 1) * client.stream_s >= longest_start_s


@dataclass
class Starter:
    """Stands in for the processes of pi: a start takes until `go`, then the model is at a server, or has failed."""

    rig: Rig | None = None
    go: threading.Event = field(default_factory=threading.Event)
    fails: bool = False
    starts: int = 0

    async def run(self, words: list[str], place: tuple[str, str]) -> Ended:
        assert words[:1] == ["start"] and self.rig
        self.starts += 1
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        if self.fails:
            return Ended(6, "CUDA out of memory")
        self.rig.knows(dc1={"qwen": {"port": self.rig.backends[-1].port, "options": OPTIONS}})
        return Ended(0, "")


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Rig, Starter]]:
    """A door before a stopped model, and the start that a request begins."""
    monkeypatch.setenv("PI_TEST_PACE", str(PACE))
    starter = Starter()
    with open_door(tmp_path, starter.run) as rig:
        starter.rig = rig
        backend = rig.backend()
        backend.answer = answer
        rig.knows(dc1={})
        stopped.keep("dc1", "qwen", OPTIONS)
        yield rig, starter
        starter.go.set()
        backend.shutdown()
        backend.server_close()


def answer(handler: Handler) -> None:
    """Answer as vLLM does on each route, in short."""
    asked = json.loads(handler.server.got[-1].body)
    if not asked.get("stream"):
        vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
        return handler.reply(200, json.dumps({"object": "list", "data": [vector], "model": "qwen"}).encode())
    handler.begin_stream()
    for event in EVENTS[handler.path]:
        handler.write(event)
    handler.write(b"")


def event(name: str, **document: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **document})}\n\n".encode()


DELTA = {"index": 0, "delta": {"content": "Paris"}, "finish_reason": None}

EVENTS = {
    CHAT: [f"data: {json.dumps({'id': 'x', 'choices': [DELTA]})}\n\n".encode(), b"data: [DONE]\n\n"],
    "/v1/responses": [event("response.output_text.delta", delta="Paris", sequence_number=1)],
    "/v1/messages": [event("message_start", message={}), event("message_stop")],
}


def later(starter: Starter, seconds: float) -> None:
    threading.Timer(seconds, starter.go.set).start()


def sdk(rig: Rig, max_retries: int = 2) -> openai.OpenAI:
    """Return OpenAI's client with its own limits, at the pace of the door."""
    url, limit_s = f"http://127.0.0.1:{rig.port}/v1", patient(600 * PACE)
    return openai.OpenAI(base_url=url, api_key=rig.key, timeout=limit_s, max_retries=max_retries)


@pytest.mark.parametrize(("path", "kept_by"), [(CHAT, COMMENT), ("/v1/responses", COMMENT), ("/v1/messages", PING)])
def test_a_stream_stays_open_in_the_form_of_its_api(slow: tuple[Rig, Starter], path: str, kept_by: bytes) -> None:
    rig, starter = slow
    later(starter, 0.5)
    with closing(http.client.HTTPConnection("127.0.0.1", rig.port, timeout=patient(HTTPX_S))) as connection:
        body = json.dumps({"model": "qwen", "stream": True, "messages": []})
        connection.request("POST", path, body, {"x-api-key": rig.key})
        reply = connection.getresponse()
        assert not starter.go.is_set() and reply.getheader("content-type") == "text/event-stream"
        text = reply.read()
    kept, rest = text.split(EVENTS[path][0])
    assert rest == b"".join(EVENTS[path][1:])
    assert kept == kept_by * (len(kept) // len(kept_by)) and len(kept) > len(kept_by) and starter.starts == 1


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages"])
def test_a_start_that_fails_ends_a_stream_with_the_error_of_its_api(slow: tuple[Rig, Starter], path: str) -> None:
    rig, starter = slow
    starter.fails = True
    later(starter, 0.2)
    answered = rig.ask(path, {"model": "qwen", "stream": True})
    name, data = answered.body.strip().split(b"\n\n")[-1].split(b"\n")
    document, message = json.loads(data.removeprefix(b"data: ")), "qwen on dc1: start failed: CUDA out of memory"
    assert answered.status == 200 and name == b"event: error" and document["type"] == "error"
    if path == "/v1/messages":
        assert document["error"] == {"type": "api_error", "message": message}
    else:
        assert (document["error"]["message"], document["error"]["code"]) == (message, "start_failed")
    if path == "/v1/responses":
        assert (document["message"], document["code"], document["sequence_number"]) == (message, "start_failed", 0)


def test_openais_client_streams_through_a_slow_start(slow: tuple[Rig, Starter]) -> None:
    rig, starter = slow
    later(starter, 0.5)
    with sdk(rig) as client:
        chunks = list(client.chat.completions.create(model="qwen", messages=[], stream=True))
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["Paris"]
        events = list(client.responses.create(model="qwen", input="hi", stream=True))
    assert [each.type for each in events] == ["response.output_text.delta"] and starter.starts == 1


def test_a_start_longer_than_the_limit_is_a_503_that_openais_client_repeats(slow: tuple[Rig, Starter]) -> None:
    rig, starter = slow
    with sdk(rig) as client:
        began = time.monotonic()
        with pytest.raises(openai.InternalServerError, match="qwen on dc1 is starting; ask again later") as refused:
            client.with_options(max_retries=0).embeddings.create(model="qwen", input="hi", encoding_format="float")
        assert time.monotonic() - began >= house.HOLD_S * PACE
        assert refused.value.status_code == 503 and refused.value.response.headers["retry-after"] == "1"
        later(starter, 0.5)
        assert client.embeddings.create(model="qwen", input="hi", encoding_format="float").data[0].embedding == [0.5]
    assert starter.starts == 1


def test_openais_client_reads_why_a_start_failed(slow: tuple[Rig, Starter]) -> None:
    rig, starter = slow
    starter.fails = True
    later(starter, 0.2)
    with sdk(rig, max_retries=0) as client:
        with pytest.raises(openai.APIError, match="CUDA out of memory"):
            list(client.chat.completions.create(model="qwen", messages=[], stream=True))
        with pytest.raises(openai.InternalServerError, match="CUDA out of memory"):
            client.embeddings.create(model="qwen", input="hi")
    assert starter.starts == 1
