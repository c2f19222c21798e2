"""Anthropic's own client before the door."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.rig.standin_dialects import ANSWER, messages, streamed
from tests.unit.door.conftest import PODS_KEY, Handler, Rig

if TYPE_CHECKING:
    import anthropic

ASK: dict[str, Any] = {"model": "qwen", "max_tokens": 9, "messages": [{"role": "user", "content": "Where?"}]}


def client_of(rig: Rig) -> anthropic.Anthropic:
    import anthropic  # seconds that each worker would need to collect its tests

    return anthropic.Anthropic(base_url=f"http://127.0.0.1:{rig.port}", api_key=rig.key, max_retries=0)


def test_anthropics_client_gets_whole_and_streamed_answers(rig: Rig) -> None:
    backend = rig.backend()
    events, whole = messages("qwen")

    def answer(handler: Handler) -> None:
        if json.loads(backend.got[-1].body).get("stream"):
            handler.begin_stream()
            text = streamed("/v1/messages", events).encode()
            for place in range(0, len(text), 7):
                handler.write(text[place : place + 7])
            handler.write(b"")
        else:
            handler.reply(200, json.dumps(whole).encode())

    backend.answer = answer
    rig.knows(dc1={"qwen": backend})
    system = "word " * 20_000
    with client_of(rig) as client:
        found = client.messages.create(**ASK, system=system)
        assert [block.text for block in found.content if block.type == "text"] == [ANSWER]
        with client.messages.stream(**ASK, system=system) as stream:
            assert "".join(stream.text_stream) == ANSWER and stream.get_final_message().stop_reason == "end_turn"
    assert [got.path for got in backend.got] == ["/v1/messages", "/v1/messages"]
    assert all(json.loads(got.body)["system"] == system for got in backend.got)
    assert all(got.headers["authorization"] == f"Bearer {PODS_KEY}" for got in backend.got)
    assert len({got.headers["x-session-id"] for got in backend.got}) == 1 and rig.key not in str(backend.got)


def test_anthropics_client_reads_the_doors_errors(rig: Rig) -> None:
    import anthropic

    backend = rig.backend()

    def answer(handler: Handler) -> None:
        handler.begin_stream()
        handler.write(streamed("/v1/messages", messages("qwen")[0][:2]).encode())
        handler.close_connection = True

    backend.answer = answer
    rig.knows(dc1={"qwen": backend})
    with client_of(rig) as client:
        with pytest.raises(anthropic.NotFoundError, match="no model 'opus'; the door has qwen"):
            client.messages.create(**{**ASK, "model": "opus"})
        with pytest.raises(anthropic.APIError, match="the connection to qwen on dc1 broke"):
            list(client.messages.create(**ASK, stream=True))
        with pytest.raises(anthropic.AuthenticationError, match="the door needs its key"):
            client.with_options(api_key="wrong").messages.create(**ASK)
