"""Refusals of a request's form: what a chat template or a server does not take, and how pi can write it instead.

The texts come from chat templates (Gemma, Mistral, Llama), vLLM, llama.cpp, Ollama, OpenAI and Google.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A form that a server refused: the error's id, message and hint, the habit to change, and the user's notice."""

    pattern: re.Pattern[str]
    id: str
    message: str
    hint: str
    habit: str
    notice: str


def _form(pattern: str, id: str, message: str, hint: str, habit: str, notice: str) -> Form:
    return Form(re.compile(pattern, re.IGNORECASE), id, message, hint, habit, notice)


_SINGLE = _form(
    r"only supports? single tool.?calls|parallel tool calls? (?:is|are) not supported|one tool call at (?:a time|once)",
    "one-call-only",
    "the model takes one tool call in a message",
    "start a new conversation, or use --no-tools",
    "single_calls",
    "the model takes one tool call in a message, so pi sends each alone",
)
_IDS = _form(
    r"tool.?call.? ids? .{0,80}(?:length (?:of )?9|9 (?:characters|alphanumeric)|alphanumeric)",
    "call-ids-refused",
    "the server refuses the ids of tool calls",
    "start a new conversation",
    "short_ids",
    "the server takes only short ids of tool calls, so pi renames them",
)
_TOOL_ROLE = _form(
    r"(?:unknown|unsupported|unexpected|invalid) (?:message )?role:?\W{0,3}tool\b"
    r"|roles? (?:are|is) supported.{0,20}got\W{0,3}tool\b"
    r"|tool (?:role|message)s?.{0,30}not (?:supported|allowed)"
    r"|does not support tool (?:role|message|result)s?|should be 'system', 'user' or 'assistant'",
    "no-tool-role",
    "the model takes no results of tools",
    "use --no-tools, or start a new conversation",
    "plain_tools",
    "the model takes no results of tools, so pi writes them into messages",
)
_SYSTEM = _form(
    r"(?:system|developer) (?:role|message|prompt|instruction)s?\b.{0,30}"
    r"(?:\bnot\b|n't|\bun)\s?(?:supported|allowed|enabled|accepted)"
    r"|(?:does not|doesn't|cannot) (?:support|accept|take|allow) (?:a |the |any )?"
    r"(?:system|developer) (?:role|message|prompt|instruction)"
    r"|(?:unknown|unsupported|unexpected|invalid) (?:message )?role:?\W{0,3}system\b"
    r"|only (?:the )?(?:user|assistant)(?:(?!system)[^.]){0,40}roles? (?:are|is) (?:supported|allowed)"
    r"|roles? (?:are|is) supported.{0,20}got\W{0,3}system\b"
    r"|no system (?:role|message|prompt)|conversation must (?:start|begin) with a user",
    "no-system-role",
    "the model takes no system message",
    'to send none: --system ""',
    "system_in_user",
    'the model takes no system message, so pi puts it into your first message (to send none: --system "")',
)
_ALTERNATE = _form(
    r"roles? (?:must|should|have to|need to) alternate|alternate (?:between )?['\"`]?user|alternating (?:user|roles)"
    r"|(?:consecutive|multiple) (?:user|assistant|messages)[^.]{0,40}not (?:supported|allowed)"
    r"|unexpected (?:message )?role:?\W{0,3}(?:user|assistant)\W{0,3}after",
    "roles-must-alternate",
    "the model wants user and assistant to alternate",
    'start a new conversation, with --system "" and --no-tools',
    "alternating",
    "the model wants user and assistant to alternate, so pi joins messages and sends no system message of its own",
)
_MAX_COMPLETION = _form(
    r"max_tokens.{0,60}max_completion_tokens.{0,10}instead",
    "max-tokens-renamed",
    "the server does not know max_tokens",
    "remove --max-tokens",
    "max_completion_tokens",
    "the server limits answers by max_completion_tokens, so pi sends that",
)

FORMS = (_SINGLE, _IDS, _MAX_COMPLETION, _TOOL_ROLE, _SYSTEM, _ALTERNATE)


def refused_form(words: str) -> Form | None:
    """Return the form that a server refuses in these words, or None."""
    return next((form for form in FORMS if form.pattern.search(words)), None)
