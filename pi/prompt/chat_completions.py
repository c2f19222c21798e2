"""The Chat Completions API of vLLM and similar servers: write requests, read streams.

Field shapes: vLLM 0.32, entrypoints/generate/base/protocol.py (DeltaMessage) and chat_completion/serving.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pi.prompt.answer import Answer, items, mapping, text
from pi.prompt.endings import plain
from pi.prompt.fragments import PartialCall, text_of
from pi.prompt.history import AssistantMessage, Message, ToolMessage
from pi.prompt.inline_thinking import Piece
from pi.prompt.sse import DONE
from pi.prompt.tools import Tool

THINKING_FIELDS = ("reasoning", "reasoning_content")
"""Fields for thinking: of today's vLLM; of DeepSeek and vLLM before 2026."""

MAX_TOKENS = "max_tokens"
"""Name of the field that limits an answer's tokens."""


def request(system: str | None, history: Sequence[Message], tools: Sequence[Tool], tool_choice: str) -> dict[str, Any]:
    """Return the body of a streamed request, without the model and sampling."""
    messages = [{"role": "system", "content": system}] if system else []
    body: dict[str, Any] = {
        "messages": [*messages, *map(_message, history)],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if tools:
        body["tools"] = [{"type": "function", "function": _function(tool)} for tool in tools]
        body["tool_choice"] = tool_choice
    return body


def _function(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _message(message: Message) -> dict[str, Any]:
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.text}
    if not isinstance(message, AssistantMessage):
        return {"role": "user", "content": message.text}
    sent: dict[str, Any] = {"role": "assistant", "content": message.text}
    if message.calls:
        sent["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
        if message.thinking:  # models that think between calls need it back
            sent[message.thinking_field] = message.thinking
    return sent


def read(chunk: dict[str, Any], answer: Answer) -> list[Piece]:
    """Add a streamed object, or a whole answer, to `answer`; return the new pieces."""
    if chunk is DONE:
        answer.finish = answer.finish or "stop"
        return []
    pieces: list[Piece] = []
    for choice in items(chunk.get("choices"))[:1]:
        delta = mapping(choice.get("delta"))
        if not delta and not (answer.texts or answer.thinking or answer.inline_thinking or answer.calls):
            delta = mapping(choice.get("message"))  # of an answer that was not streamed
        for name in THINKING_FIELDS:
            if thinking := text(delta.get(name)):
                answer.thinking_field = name
                pieces += answer.add_thinking(thinking)
                break
        if content := text(delta.get("content")) or text(delta.get("refusal")):
            pieces += answer.add_text(content)
        for part in items(delta.get("content")):
            pieces += _part(part, answer)
        for fragment in items(delta.get("tool_calls")):
            _add_call(fragment, answer)
        if legacy := mapping(delta.get("function_call")):
            _add_call({"function": legacy}, answer)
        answer.finish = plain(text(choice.get("finish_reason"))) or answer.finish
        answer.problem = text(mapping(choice.get("error")).get("message")) or answer.problem
    if usage := chunk.get("usage"):
        answer.count(usage, "prompt_tokens", "completion_tokens")
    return pieces


def _part(part: dict[str, Any], answer: Answer) -> list[Piece]:
    """Add a part of a content in parts, as Mistral's own API sends it."""
    if words := text(part.get("text")):
        return answer.add_text(words)
    thinking = "".join(text(each.get("text")) for each in items(part.get("thinking")))
    return answer.add_thinking(thinking) if thinking else []


def _add_call(fragment: dict[str, Any], answer: Answer) -> None:
    """Add a fragment to the call that it continues: the one with its id, or the latest of its index.

    Without a name, a fragment with a new index continues a call, too.
    """
    index, call_id = str(fragment.get("index")), text(fragment.get("id"))
    function = mapping(fragment.get("function")) or fragment
    name, arguments = text(function.get("name")), text_of(function.get("arguments"))
    same_index = [key for key in answer.calls if key.partition("/")[0] == index]
    same_id = [key for key in same_index if call_id and answer.calls[key].id == call_id]
    if not name and not same_index:
        same_id = [key for key, call in answer.calls.items() if call_id in ("", call.id)]
    key = next(reversed(same_id or same_index), index)
    if same_index and answer.calls[key].begins_another(call_id, name, arguments, answer.tools):
        name = name or answer.calls[key].name
        key = f"{index}/{len(same_index)}"
    answer.calls.setdefault(key, PartialCall()).add(call_id, name, arguments, answer.tools)
