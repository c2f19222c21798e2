"""Separate thinking from a text in which a model wrote both, wherever the stream is split.

This happens if the server has no reasoning parser. Tags: chat templates and vLLM 0.33, vllm/reasoning and vllm/parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pi.prompt.events import Text, Thinking

PAIRS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<reason>": "</reason>",
    "<reflection>": "</reflection>",
    "<scratch_pad>": "</scratch_pad>",
    "<mm:think>": "</mm:think>",
    "<seed:think>": "</seed:think>",
    "<ifm|think>": "</ifm|think>",
    "<|think|>": "<|/think|>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|plamo:begin_think:plamo|>": "<|plamo:end_think:plamo|>",
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",
    "<|content_thinking|>": "<|end_message|>",
    "<|channel>thought": "<channel|>",
    "<|channel|>analysis<|message|>": "<|end|>",
    "Here is my thought process:": "Here is my response:",
}
"""Tags that begin and end thinking."""

PARSERS = {
    "</mm:think>": "minimax_m3",
    "</seed:think>": "seed_oss",
    "</ifm|think>": "k2_horizon",
    "[/THINK]": "mistral",
    "<|END_THINKING|>": "cohere_command3",
    "<|plamo:end_think:plamo|>": "plamo3",
    "<|close|>think<|sep|>": "kimi_k3",
    "<|end_message|>": "inkling",
    "<channel|>": "gemma4",
    "<|end|>": "openai_gptoss",
    "Here is my response:": "granite",
}
"""vLLM's reasoning parser by the tag that ends thinking; many families share `</think>`."""

DROPPED = ("<|start|>assistant", "<|channel|>final<|message|>", "<|return|>")
"""Marks of GPT-OSS around the answer."""

AROUND_ANSWER = ("<answer>", "</answer>")
"""Tags around an answer after thinking (Hunyuan)."""

LONE_ENDS = frozenset(PAIRS.values()) - {"<|end|>", "<|end_message|>", "<channel|>", "Here is my response:"}
"""Ends that count without a beginning, which the chat template may have written."""

_TAGS = sorted({*PAIRS, *PAIRS.values(), *DROPPED, *AROUND_ANSWER}, key=len, reverse=True)
_TAG = re.compile("|".join(map(re.escape, _TAGS)))
_BEGINNINGS = frozenset(tag[:length] for tag in _TAGS for length in range(1, len(tag)))
_LONGEST = max(map(len, _TAGS)) - 1
_FIRST = frozenset(tag[0] for tag in _TAGS)


@dataclass(frozen=True)
class TextWasThinking:
    """All text of the answer so far was thinking; its end `text` came without a beginning."""

    text: str


Piece = Thinking | Text | TextWasThinking
"""What an answer consists of while it arrives."""


@dataclass
class Splitter:
    """Splits a stream of text. `end` is the tag that ended thinking, or will end it; None if there was none.

    A beginning counts at the start of a line, outside of code. If `assumed` is an end, the text begins as thinking.
    """

    assumed: str | None = None
    end: str | None = None
    inside: bool = False
    lone_end: bool = False
    _held: str = ""
    _line: str = ""
    _fenced: bool = False

    def __post_init__(self) -> None:
        if self.assumed:
            self.end, self.inside = self.assumed, True

    def feed(self, text: str) -> list[Piece]:
        """Return the pieces that are certain. Hold back what may begin a tag."""
        self._held += text
        return self._split(finished=False)

    def flush(self) -> list[Piece]:
        """Return the rest. Call this when the stream ends."""
        return self._split(finished=True)

    def _split(self, *, finished: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while match := self._next_tag():
            before, tag, after = self._held[: match.start()], match[0], self._held[match.end() :]
            if not (after or finished) and self._needs_next(tag):
                self._held = self._held[match.start() :]
                self._add(pieces, before)
                return pieces
            self._add(pieces, before)
            self._held = after
            pieces += self._at(tag, after)
        keep = 0 if finished else _held_length(self._held)
        self._add(pieces, self._held[: len(self._held) - keep])
        self._held = self._held[len(self._held) - keep :]
        return pieces

    def _next_tag(self) -> re.Match[str] | None:
        return _TAG.search(self._held)

    def _needs_next(self, tag: str) -> bool:
        """Return whether only the next character shows if a tag counts."""
        return not self.inside and tag in LONE_ENDS

    def _at(self, tag: str, after: str) -> list[Piece]:
        """Return the pieces for a tag, and note what it changes."""
        starts_line = not self._line.strip() and not self._fenced
        if self.inside and tag == self.end:
            self.inside = False
            self._line = ""
            return []
        if not self.inside and tag in PAIRS and starts_line:
            self.inside, self.end = True, PAIRS[tag]
            return []
        if self.inside and self.assumed and PAIRS.get(tag) == self.end and not self._line:
            return []  # it did write the beginning this time
        if (tag in DROPPED and starts_line) or (tag in (*DROPPED, *AROUND_ANSWER) and self.end and not self.inside):
            return []
        if not self.inside and tag in LONE_ENDS and self._ends_here(after):
            self.end, self.lone_end, self._line = tag, True, ""
            return [TextWasThinking(tag)]
        pieces: list[Piece] = []
        self._add(pieces, tag)
        return pieces

    def _ends_here(self, after: str) -> bool:
        """Return whether an end without a beginning is meant, not only mentioned in a sentence or in code."""
        if self._fenced or self._line.count("`") % 2:
            return False
        mentioned = self._line[-1:] in " \t\"'`(*" and after[:1] in " \t\"'`),.;:*?!"
        return not (self._line and after and mentioned)

    def _add(self, pieces: list[Piece], text: str) -> None:
        if not text:
            return
        pieces.append(Thinking(text) if self.inside else Text(text))
        *whole, self._line = (self._line + text).split("\n")
        if not self.inside:
            for line in whole:
                self._fenced ^= line.lstrip().startswith(("```", "~~~"))


def _held_length(text: str) -> int:
    """Return how many characters at the end of a text may begin a tag."""
    for length in range(min(len(text), _LONGEST), 0, -1):
        if text[-length] in _FIRST and text[-length:] in _BEGINNINGS:
            return length
    return 0
