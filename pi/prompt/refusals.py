"""Turn an endpoint's refusal (HTTP status and body) into an error for the user.

The patterns match texts of vLLM 0.32 and older, OpenAI and llama.cpp.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pi.errors import RemoteError
from pi.text import count, one_line

TEXT_LIMIT = 400
"""Most characters of a server's own words in a message."""


class NoToolParserError(RemoteError):
    """The model has no tool parser, so it refuses requests that offer tools."""


class ContextOverflowError(RemoteError):
    """The conversation is too long for the model's context; `exact` if the excess is known."""

    def __init__(self, message: str, *, exact: bool) -> None:
        super().__init__(
            "context-overflow", message, "ask for less, start a new conversation, or start with a larger --context"
        )
        self.exact = exact


class EndpointFailedError(RemoteError):
    """The server failed, not the request; its log may explain it."""


def refused(status: int, body: str, model: str, *, of_pod: bool) -> RemoteError:
    """Return the error for a status other than 200, from a pod or another endpoint."""
    words = server_words(body)
    if status in (401, 403):
        return RemoteError(
            "key-refused",
            f"the endpoint rejected the API key ({status}): {model} was started with another one",
            "set PI_API_KEY to that key, or stop the model and start it with this one"
            if of_pod
            else "set OPENAI_API_KEY, or the variable of --api-key-env, to that key",
        )
    if 300 <= status < 400:
        return RemoteError("endpoint-redirects", f"the endpoint redirects ({status}); pi sends its key nowhere else")
    if status == 404 and "model" in words.lower():
        return RemoteError("endpoint-lacks-model", f"the endpoint has no model {model!r}: {words}")
    if status == 404:
        return RemoteError(
            "endpoint-lacks-route", "the endpoint has no such route (404)", "a base URL usually ends in /v1"
        )
    return described(words, status)


def described(words: str, status: int) -> RemoteError:
    """Return the error that a server describes in its own words."""
    if _TOOL_PARSER.search(words):
        return NoToolParserError("no-tool-parser", "the model was started without a tool parser", words)
    if overflow := _overflow(words):
        return overflow
    if status >= 500:
        return EndpointFailedError("endpoint-failed", f"the model's server failed ({status}): {words}")
    return RemoteError("request-refused", f"the endpoint rejected the request ({status}): {words}")


def server_words(body: str) -> str:
    """Return the server's explanation on one line, from any of the shapes of error bodies."""
    try:
        words = _words(json.loads(body))
    except (ValueError, RecursionError):
        words = re.sub(r"<style.*?</style>|<[^>]*>", " ", body, flags=re.DOTALL)
    return one_line(words, TEXT_LIMIT) or "no reason given"


def _words(body: Any) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, map(_words, body)))
    if isinstance(body, dict):
        return next(filter(None, (_words(body.get(key)) for key in ("error", "message", "detail", "msg"))), "")
    return ""


_TOOL_PARSER = re.compile(r"--tool-call-parser|does not support tools|tools? .{0,40}requires? --jinja", re.IGNORECASE)

_LIMIT = r"(?:maximum context length is|maximum model length of|context length \(|context size \()\D{0,3}([\d,]+)"
_USED = (
    r"(?:your prompt contains|you requested|resulted in|input length \(|prompt \(length|request \()"
    r"\s*((?:at least )?)([\d,]+)\b(?! characters)"
)


def _overflow(words: str) -> ContextOverflowError | None:
    lowered = words.lower()
    limit, used = re.search(_LIMIT, lowered), re.search(_USED, lowered)
    if limit is None:
        return _without_numbers(words) if "context" in lowered and "exceed" in lowered else None
    context = _number(limit[1])
    if used is None or _number(used[2]) <= context:
        return _without_numbers(words)
    return overflow(context, _number(used[2]), at_least=bool(used[1]))


def overflow(context: int, tokens: int, *, at_least: bool = False) -> ContextOverflowError:
    """Return the error for a request of `tokens` that exceeds `context`."""
    over = max(1, tokens - context)
    excess = f"{'at least ' if at_least else ''}{count(over, 'token')}"
    message = f"the conversation exceeds the model's context of {context:,} tokens by {excess}"
    return ContextOverflowError(message, exact=not at_least)


def _without_numbers(words: str) -> ContextOverflowError:
    return ContextOverflowError(f"the conversation exceeds the model's context: {words}", exact=False)


def _number(digits: str) -> int:
    return int(digits.replace(",", ""))
