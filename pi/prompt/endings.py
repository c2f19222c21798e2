"""Decide whether a model's answer is one, and say what is missing otherwise."""

from __future__ import annotations

import re

from pi.errors import RemoteError
from pi.prompt.answer import Answer
from pi.prompt.history import AssistantMessage
from pi.text import one_line

FAILED = {
    "abort": ("answer-aborted", "the server aborted the answer"),
    "aborted": ("answer-aborted", "the server aborted the answer"),
    "cancelled": ("answer-aborted", "the server cancelled the answer"),
    "canceled": ("answer-aborted", "the server cancelled the answer"),
    "error": ("answer-failed", "the server failed in the middle of the answer"),
    "failed": ("answer-failed", "the server failed in the middle of the answer"),
    "network_error": ("answer-failed", "the server failed in the middle of the answer"),
    "insufficient_system_resource": ("answer-failed", "the server had no room left for the answer"),
    "malformed_function_call": ("answer-failed", "the model wrote a tool call that the server cannot read"),
    "content_filter": ("answer-filtered", "the server's content filter stopped the answer"),
    "sensitive": ("answer-filtered", "the server's content filter stopped the answer"),
    "safety": ("answer-filtered", "the server's content filter stopped the answer"),
}
"""Finish reasons that mean failure: of vLLM, OpenAI, and services with the same API. Id and message of the error."""

HINTS = {
    "answer-aborted": "ask again; somebody else may have stopped the server's work",
    "answer-failed": "ask again; if it fails again, read the server's log",
    "answer-filtered": "ask in other words",
}

SYNONYMS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
}
"""Finish reasons of Anthropic, Google, Mistral and text-generation-inference, in the words of Chat Completions."""


def plain(finish: str) -> str:
    """Return a finish reason in the words of Chat Completions."""
    return SYNONYMS.get(finish.lower(), finish.lower())


CUT = {
    "length": "the answer is cut: it reached the token limit or the end of the context",
    "repetition": "the answer is cut: the server stopped it because the model repeats itself",
}
"""Notices for finish reasons of an answer that has an end too early."""

_SPECIAL_TOKEN = re.compile(r"<\|[a-z_]+\|>|</?s>|<(?:eos|bos|pad|unk|end_of_turn)>|\[/?INST\]", re.IGNORECASE)
"""A token of a chat template that a server left in the text; alone it is not an answer."""

CALLS = ("tool_calls", "function_call", "tool_use")
"""Finish reasons that announce tool calls."""


def failure(answer: Answer, message: AssistantMessage) -> RemoteError | None:
    """Return the error for an answer that is none, or None."""
    finish = (answer.finish or "").lower()
    if finish in FAILED:
        id, words = FAILED[finish]
        problem = f": {one_line(answer.problem)}" if answer.problem else ""
        return RemoteError(id, f"{words} (finish reason {finish!r}){problem}", HINTS[id])
    if message.calls or _SPECIAL_TOKEN.sub("", message.text).strip():
        return None
    if finish in CALLS:
        return RemoteError(
            "answer-lacks-calls",
            f"the server announced a tool call but sent none (finish reason {finish!r})",
            "ask again, or use --no-tools; the tool parser may not fit the model",
        )
    if message.thinking.strip():
        return _only_thought(finish)
    return RemoteError(
        "answer-empty",
        f"the model gave no answer: no text and no tool call (finish reason {one_line(finish or 'none', 40)!r})",
        "ask again, or in other words",
    )


def _only_thought(finish: str) -> RemoteError:
    if finish == "length":
        return RemoteError(
            "answer-only-thought",
            "the model only thought: the token limit, or the end of the context, came before its answer",
            "use a larger --max-tokens, or start the model with a larger --context",
        )
    return RemoteError(
        "answer-only-thought",
        "the model only thought and gave no answer",
        "ask again; if it never answers, its reasoning parser does not fit, so start the model without one",
    )
