"""Turn an endpoint's refusal (HTTP status and body) into an error for the user.

The patterns match texts of vLLM 0.32 and older, OpenAI and llama.cpp.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pi.errors import RemoteError
from pi.prompt.endpoint import Endpoint
from pi.prompt.forms import refused_form
from pi.prompt.token_limits import Room, excess
from pi.text import count, one_line

TEXT_LIMIT = 400
"""Most characters of a server's own words in a message."""

LEAST_ROOM = 256
"""Fewest tokens for an answer with which pi tries again by itself."""

ANSWER_TOKENS = 1024
"""Tokens for an answer, in a context that pi proposes."""


UNKNOWN = Endpoint("", "MODEL", "")
"""Stands for an endpoint that pi knows nothing about."""


class NoToolParserError(RemoteError):
    """The model has no tool parser, so it refuses requests that offer tools."""


class HabitError(RemoteError):
    """The server wants requests of another form: `habit`, a field of `sendable.Habits`, with its value.

    `notice` tells the user what pi changes.
    """

    def __init__(self, id: str, message: str, hint: str, habit: str, notice: str, value: int | bool = True) -> None:
        super().__init__(id, message, hint)
        self.habit = habit
        self.notice = notice
        self.value = value


class ContextOverflowError(RemoteError):
    """The conversation is too long for the model's context; `exact` if the excess is known."""

    def __init__(self, message: str, *, exact: bool, command: str = "pi start ... --context N") -> None:
        hint = f"ask for less, or start a new conversation; for a larger context: {command}"
        super().__init__("context-overflow", message, hint)
        self.exact = exact


class EndpointFailedError(RemoteError):
    """The server failed, not the request; its log may explain it."""


def refused(status: int, body: str, model: str, *, of_pod: bool, endpoint: Endpoint = UNKNOWN) -> RemoteError:
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
    if known := _known(_full_words(body), endpoint):
        return known
    if status == 404 and "model" in words.lower():
        return RemoteError("endpoint-lacks-model", f"the endpoint has no model {model!r}: {words}")
    if status == 404:
        return RemoteError(
            "endpoint-lacks-route",
            "the endpoint has no such route (404)",
            "use --api chat"
            if endpoint.api == "responses"
            else "a base URL usually ends in /v1; a model for embeddings has no route for chats",
        )
    return described(words, status, endpoint)


def described(words: str, status: int, endpoint: Endpoint = UNKNOWN) -> RemoteError:
    """Return the error that a server describes in its own words."""
    if known := _known(words, endpoint):
        return known
    words = _short(words)
    if status >= 500:
        return EndpointFailedError("endpoint-failed", f"the model's server failed ({status}): {words}")
    if status == 429:
        return RemoteError("endpoint-busy", f"the endpoint has too many requests (429): {words}", "ask again later")
    return RemoteError("request-refused", f"the endpoint rejected the request ({status}): {words}")


def _known(words: str, endpoint: Endpoint) -> RemoteError | None:
    """Return the error for a refusal that pi knows, or None."""
    if _TOOL_PARSER.search(words):
        return NoToolParserError("no-tool-parser", "the model was started without a tool parser", _short(words))
    if error := _cannot_chat(words, endpoint):
        return error
    if form := refused_form(words):
        return HabitError(form.id, f"{form.message}: {_short(words)}", form.hint, form.habit, form.notice)
    return _length_error(words, endpoint)


def _length_error(words: str, endpoint: Endpoint) -> RemoteError | None:
    found = excess(words)
    if isinstance(found, Room):
        return _answer_too_long(found.tokens)
    if found is None:
        return None
    if found.context is None or found.tokens is None:
        return ContextOverflowError(f"the conversation exceeds the model's context: {_short(words)}", exact=False)
    return overflow(found.context, found.tokens, endpoint, at_least=found.at_least)


def _answer_too_long(room: int) -> RemoteError:
    """Return the error for too many tokens of an answer, where only `room` fit."""
    message = f"the answer's limit is too large; --max-tokens {room} fits"
    hint = f"use --max-tokens {room} or less, or start the model with a larger --context"
    if room < LEAST_ROOM:
        return RemoteError("max-tokens-too-large", message, hint)
    notice = f"{message}, so pi uses that"
    return HabitError("max-tokens-too-large", message, hint, "max_tokens", notice, room)


def _cannot_chat(words: str, endpoint: Endpoint) -> RemoteError | None:
    if _NO_TEMPLATE.search(words):
        return RemoteError(
            "no-chat-template",
            "the model has no chat template, so it cannot chat; it may be a base model",
            f"start its instruct variant, or add a template: {endpoint.started_with(chat_template='FILE')}",
        )
    if _NO_CHAT.search(words):
        return RemoteError(
            "model-does-not-chat",
            f"the model does not answer chats: {_short(words)}",
            "a model for embeddings has its own route, such as POST /v1/embeddings; to chat, name another model",
        )
    return None


def server_words(body: str) -> str:
    """Return the server's explanation on one line, from any of the shapes of error bodies."""
    return one_line(_full_words(body), TEXT_LIMIT) or "no reason given"


def _full_words(body: str) -> str:
    try:
        return _words(json.loads(body))
    except (ValueError, RecursionError):
        return re.sub(r"<style.*?</style>|<[^>]*>", " ", body, flags=re.DOTALL)


def _short(words: str) -> str:
    return one_line(words, TEXT_LIMIT)


def _words(body: Any) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, map(_words, body)))
    if isinstance(body, dict):
        return next(filter(None, (_words(body.get(key)) for key in ("error", "message", "detail", "msg"))), "")
    return ""


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(parts), re.IGNORECASE)


_TOOL_PARSER = _pattern(
    r"--tool-call-parser",
    r"tool_call_parser",
    r"(?:does not|doesn't|do not|cannot) (?:currently )?(?:support|use|accept|allow) "
    r"(?:tools?\b(?! (?:role|message|result))|function.call)",
    r"(?:tools?|tool (?:use|calling|calls)|function calling|`tools`)\W{0,3}(?: param(?:eter)?)? "
    r"(?:is|are) not (?:supported|enabled|allowed)",
    r"support for tools",
    r"tools? .{0,40}requires? --jinja",
    r"no (?:connected )?(?:provider|endpoint)s? (?:found that )?supports? tool",
    r"unrecognized request arguments?[^.]{0,30}: tools",
)

_NO_TEMPLATE = _pattern(
    r"default chat template is no longer allowed",
    r"must provide a chat template",
    r"chat.?template (?:is|was) not (?:set|defined|found|provided)",
    r"(?:does not have|has no|no|without an?|missing) chat.?template",
    r"cannot use chat template functions",
)

_NO_CHAT = _pattern(
    r"does not support (?:the )?(?:chat completions?|responses?|chats?|generate|generation|text generation)\b",
    r"not a chat model",
    r"(?:embedding|pooling|rerank(?:ing)?|classification|reward) models? (?:does|do|can)(?: not|n't|not)",
    r"(?:is|only) (?:an? |for )?(?:embedding|pooling)s?(?: model)?\b(?! length)",
    r"only supports? embedding",
    r"not supported in the v1/chat/completions",
)


def overflow(context: int, tokens: int, endpoint: Endpoint, *, at_least: bool = False) -> ContextOverflowError:
    """Return the error for a request of `tokens` that exceeds `context`."""
    over = max(1, tokens - context)
    excess_words = f"{'at least ' if at_least else ''}{count(over, 'token')}"
    message = f"the conversation exceeds the model's context of {context:,} tokens by {excess_words}"
    wanted = 1 << (tokens + ANSWER_TOKENS).bit_length()
    command = endpoint.started_with_context(wanted)
    return ContextOverflowError(message, exact=not at_least, command=command)
