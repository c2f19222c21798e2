"""The Responses API of vLLM: write requests, read streams.

Shapes: vLLM 0.32, entrypoints/openai/responses/streaming_events.py and serving.py; there is no "[DONE]".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pi.prompt.answer import Answer, items, mapping, text
from pi.prompt.fragments import PartialCall
from pi.prompt.history import AssistantMessage, Message, ToolMessage
from pi.prompt.inline_thinking import Piece
from pi.prompt.tools import Tool

_THINKING = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")
_TEXT = ("response.output_text.delta", "response.refusal.delta")
_ENDS = ("response.completed", "response.incomplete", "response.cancelled")

MAX_TOKENS = "max_output_tokens"
"""Name of the field that limits an answer's tokens."""


def request(system: str | None, history: Sequence[Message], tools: Sequence[Tool], tool_choice: str) -> dict[str, Any]:
    """Return the body of a streamed request, without the model and sampling.

    It asks the server to store nothing.
    """
    body: dict[str, Any] = {
        "input": [item for message in history for item in _items(message)],
        "stream": True,
        "store": False,
    }
    if system:
        body["instructions"] = system
    if tools:
        body["tools"] = [_function(tool) for tool in tools]
        body["tool_choice"] = tool_choice
    return body


def _function(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": False,
    }


def _items(message: Message) -> list[dict[str, Any]]:
    if isinstance(message, ToolMessage):
        return [{"type": "function_call_output", "call_id": message.call_id, "output": message.text}]
    if not isinstance(message, AssistantMessage):
        return [{"role": "user", "content": message.text}]
    sent: list[dict[str, Any]] = []
    if message.thinking and message.calls:  # models that think between calls need it back
        thinking = [{"type": "reasoning_text", "text": message.thinking}]
        sent.append({"type": "reasoning", "id": "rs_1", "summary": [], "content": thinking})
    if message.text:
        sent.append({"role": "assistant", "content": message.text})
    for call in message.calls:
        sent.append(
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments or "{}"}
        )
    return sent


def read(event: dict[str, Any], answer: Answer) -> list[Piece]:
    """Add a streamed event, or a whole response, to `answer`; return the new pieces."""
    kind = text(event.get("type"))
    delta = text(event.get("delta"))
    if kind in _TEXT and delta:
        return answer.add_text(delta)
    if kind in _THINKING and delta:
        return answer.add_thinking(delta)
    if kind == "response.function_call_arguments.delta":
        _call(event, answer).add("", "", delta, answer.tools)
    elif kind in ("response.output_item.added", "response.output_item.done"):
        _add_item(event, answer, whole=kind.endswith("done"))
    elif kind in _ENDS or event.get("object") == "response":
        return _end(mapping(event.get("response")) or event, answer)
    return []


def _call(event: dict[str, Any], answer: Answer) -> PartialCall:
    item_id = event.get("item_id") or mapping(event.get("item")).get("id")
    return answer.calls.setdefault(f"{event.get('output_index')}/{item_id}", PartialCall())


def _add_item(event: dict[str, Any], answer: Answer, *, whole: bool) -> None:
    item = mapping(event.get("item"))
    if item.get("type") != "function_call":
        return
    call = _call(event, answer)
    call.add(text(item.get("call_id")), text(item.get("name")), "", answer.tools)
    if whole and text(item.get("arguments")):
        call.arguments = [text(item["arguments"])]


def _end(response: dict[str, Any], answer: Answer) -> list[Piece]:
    """Add the counts, the status, and each kind of output that was not streamed.

    vLLM streams no events for a GPT-OSS call with empty arguments; only the last event contains it.
    """
    pieces: list[Piece] = []
    answer.count(response.get("usage"), "input_tokens", "output_tokens")
    thinking, calls = bool(answer.thinking), bool(answer.calls)
    texts = bool(answer.texts or answer.inline_thinking or answer.inline.end)
    for index, item in enumerate(items(response.get("output"))):
        kind = item.get("type")
        words = "".join(text(part.get("text")) for part in items(item.get("content")))
        if kind == "function_call" and not calls:
            _add_item({"output_index": index, "item": item}, answer, whole=True)
        elif kind == "reasoning" and words and not thinking:
            pieces += answer.add_thinking(words)
        elif kind == "message" and words and not texts:
            pieces += answer.add_text(words)
    answer.finish = _finish(response)
    return pieces


def _finish(response: dict[str, Any]) -> str:
    """Return the reason for the end, in the words of Chat Completions."""
    status = text(response.get("status"))
    if status == "incomplete":
        reason = text(mapping(response.get("incomplete_details")).get("reason"))
        return reason if reason and reason != "max_output_tokens" else "length"
    return "stop" if status in ("", "completed") else status
