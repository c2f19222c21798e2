"""Hints for failed starts, by the words in vLLM's log."""

from __future__ import annotations

import re
from typing import NamedTuple

from pi.vllm import hints_gpus, hints_host, hints_memory, hints_model, hints_packages, hints_start
from pi.vllm.hint import Hint
from pi.vllm.start_facts import StartFacts


class Advice(NamedTuple):
    """A known kind of failure, by its stable id, and what to do about it."""

    id: str
    hint: str


def advice_for(text: str, facts: StartFacts) -> Advice | None:
    """Return the id and text of the hint for a cause and the lines around it, or None."""
    found = hint_for(text)
    return found and Advice(found[0].id, found[0].text(found[1], facts))


def hint_for(text: str) -> tuple[Hint, re.Match[str]] | None:
    """Return the first hint whose pattern is in a text."""
    return next(((hint, match) for hint in HINTS if (match := re.search(hint.pattern, text, re.MULTILINE))), None)


HINTS: tuple[Hint, ...] = (
    *hints_start.HINTS,
    *hints_host.HINTS,
    *hints_packages.HINTS,
    *hints_memory.HINTS,
    *hints_gpus.HINTS,
    *hints_model.HINTS,
    *hints_host.LAST,
)
"""The first match applies."""
