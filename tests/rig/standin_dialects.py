"""A stand-in for `vllm serve` behind pi's own guard: it speaks the three dialects that clients of models use.

Chat Completions, Anthropic's Messages and OpenAI's Responses, each as a stream and whole, with the same answer. What it
was asked is in `~/received/requests.jsonl`. It runs with the tests' Python, which has uvicorn.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from tests.rig import standin_vllm

WORDS = ["The capital", " of France", " is Paris."]

ANSWER = "".join(WORDS)

CONTEXT = 131072

Event = tuple[str, dict[str, Any]]


class Server:
    """The ASGI application behind the guard."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = json.loads(body) if body else {}
        self._note(scope, asked)
        found = self._answer(scope["method"], scope["path"], asked)
        kind = b"text/event-stream" if isinstance(found, str) else b"application/json"
        data = found.encode() if isinstance(found, str) else json.dumps(found or {"error": "no such route"}).encode()
        status = 404 if found is None else 200
        length = [] if isinstance(found, str) else [(b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *length]})
        await send({"type": "http.response.body", "body": data})

    def _note(self, scope: Any, asked: Any) -> None:
        document = {"path": scope["path"], "query": scope["query_string"].decode(), "body": asked}
        with (Path.home() / "received" / "requests.jsonl").open("a") as file:
            file.write(json.dumps(document) + "\n")

    def _answer(self, method: str, path: str, asked: Any) -> Any:
        if path == "/health":
            return {"status": "ok"}
        if path == "/v1/models":
            models = [{"id": name, "object": "model", "max_model_len": CONTEXT} for name in self._names]
            return {"object": "list", "data": models}
        if path == "/v1/messages/count_tokens":
            return {"input_tokens": 12}
        make = {"/v1/chat/completions": chat, "/v1/messages": messages, "/v1/responses": responses}.get(path)
        if make is None or method != "POST":
            return None
        events, whole = make(asked.get("model", ""))
        return streamed(path, events) if asked.get("stream") else whole


def streamed(path: str, events: list[Event]) -> str:
    if path == "/v1/chat/completions":
        return "".join(f"data: {json.dumps(data)}\n\n" for _, data in events) + "data: [DONE]\n\n"
    return "".join(f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n" for name, data in events)


def chat(model: str) -> tuple[list[Event], dict[str, Any]]:
    head = {"id": "chatcmpl-1", "created": 1, "model": model}
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}

    def chunks() -> Iterator[Event]:
        for delta in ({"role": "assistant", "content": ""}, *({"content": word} for word in WORDS)):
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            yield "", {**head, "object": "chat.completion.chunk", "choices": [choice]}
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield "", {**head, "object": "chat.completion.chunk", "choices": [last]}
        yield "", {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    message = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    return list(chunks()), {**head, "object": "chat.completion", "choices": [message], "usage": usage}


def messages(model: str) -> tuple[list[Event], dict[str, Any]]:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}
    usage = {"input_tokens": 12, "output_tokens": 3}
    texts = [{"index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS]
    events: list[Event] = [
        ("message_start", {"message": {**head, "content": [], "stop_reason": None, "usage": usage}}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(("content_block_delta", text) for text in texts),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}),
        ("message_stop", {}),
    ]
    return events, {**head, "content": [{"type": "text", "text": ANSWER}], "stop_reason": "end_turn", "usage": usage}


def responses(model: str) -> tuple[list[Event], dict[str, Any]]:
    part = {"type": "output_text", "text": ANSWER, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    usage_whole = {
        **usage,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": model}
    whole = {**head, "status": "completed", "output": [item], "usage": usage_whole}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[Event] = [
        ("response.created", {"response": {**head, "status": "in_progress", "output": []}}),
        ("response.output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}),
        ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
        *(("response.output_text.delta", {**place, "delta": word}) for word in WORDS),
        ("response.output_text.done", {**place, "text": ANSWER}),
        ("response.content_part.done", {**place, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": whole}),
    ]
    numbered = [(name, {**data, "sequence_number": number}) for number, (name, data) in enumerate(events)]
    return numbered, whole


def main() -> None:
    words = sys.argv[1:]
    if words[:1] != ["serve"]:
        standin_vllm.main()
        return
    names = standin_vllm.served_names(words)
    standin_vllm.leave_word(names[-1], words)
    sys.path.insert(0, os.environ["PYTHONPATH"])
    guard = importlib.import_module("pi_guard").Guard
    host, port = standin_vllm.value_of(words, "--host"), int(standin_vllm.value_of(words, "--port"))
    uvicorn.run(guard(Server(names)), host=host, port=port, log_level="warning")
