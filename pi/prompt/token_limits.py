"""Read from a server's refusal how many tokens were too many.

The texts are those of vLLM from 0.4 to 0.33, OpenAI, llama.cpp and text-generation-inference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_N = r"([\d,]+)"

_LIMIT = (
    r"(?:maximum context length (?:is|of)|maximum model length of|must have less than|context length \(|"
    r"context size \(|maximum input length \(|max_new_tokens` must be <=|tokens >)\D{0,3}([\d,]+)"
)
_USED = (
    r"(?:your prompt contains|your request has|you requested(?: a total of)?|resulted in|input length \(|input \(|"
    r"prompt \(length|prompt length \(|request \(|prompt is too long:|given:)"
    r"\s*((?:at least )?)([\d,]+)\b(?! (?:characters|output))"
)
_PROMPT = (
    rf"\({_N} in the messages, {_N} in the completion",
    rf"requested {_N} output tokens and your prompt contains (?:at least )?(?P<prompt>[\d,]+)",
    rf"your request has {_N} input tokens",
    rf"{_N} tokens from the input messages",
    rf"given: {_N} `inputs` tokens",
)
"""How servers count the prompt alone, in a refusal of the whole."""

_MOST = (
    r"(?:supports? at most |cannot be greater than max_(?:model_len|total_tokens)=|range of max_tokens is \[1, |"
    rf"must be (?:less than or equal to|<=|≤|at most) ){_N}"
)
_NO_ROOM = re.compile(r"max_(?:completion_)?tokens must be at least 1, got -?\d")
_SUBJECT = re.compile(r"max_(?:completion_|new_|output_)?tokens|completion|output tokens")


@dataclass(frozen=True)
class Overflow:
    """The conversation has more `tokens` than the `context`; None if the server gave no numbers."""

    context: int | None = None
    tokens: int | None = None
    at_least: bool = False


@dataclass(frozen=True)
class Room:
    """Only the answer is too long; `tokens` fit."""

    tokens: int


def excess(words: str) -> Overflow | Room | None:
    """Return what a refusal says about lengths, or None."""
    lowered = words.lower()
    limit = re.search(_LIMIT, lowered)
    if _NO_ROOM.search(lowered):
        return Overflow()
    if _SUBJECT.search(lowered):
        most = re.search(_MOST, lowered)
        if most and not limit:
            return Room(_number(most[1]))
        prompt = _prompt_tokens(lowered)
        if limit and prompt is not None and prompt < _number(limit[1]):
            return Room(_number(limit[1]) - prompt)
    if limit is None:
        is_overflow = "context" in lowered and re.search(
            r"exceed|too long|overflow|too large|greater than the context", lowered
        )
        return Overflow() if is_overflow else None
    used = re.search(_USED, lowered)
    if used is None or _number(used[2]) <= _number(limit[1]):
        return Overflow()
    return Overflow(_number(limit[1]), _number(used[2]), at_least=bool(used[1]))


def _prompt_tokens(words: str) -> int | None:
    for pattern in _PROMPT:
        if match := re.search(pattern, words):
            return _number(match.groupdict().get("prompt") or match[1])
    return None


def _number(digits: str) -> int:
    return int(digits.replace(",", "") or 0)
