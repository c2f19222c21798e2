"""The command-line options of `vllm serve` as words: read, found, laid over each other."""

from __future__ import annotations

import re
from collections.abc import Iterable

SHORT = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-dcp": "--decode-context-parallel-size",
    "-pcp": "--prefill-context-parallel-size",
    "-ep": "--enable-expert-parallel",
    "-q": "--quantization",
    "-O": "--optimization-level",
    "-cc": "--compilation-config",
    "-ac": "--attention-config",
    "-sc": "--speculative-config",
    "-dc": "--diffusion-config",
    "-asc": "--api-server-count",
}
"""vLLM's short options that a user may give; the others belong to pi."""


def option(word: str) -> str | None:
    """The option that a word names, as vLLM spells it, without its value; None where the word is a value."""
    if word.startswith("--") and len(word) > 2:
        return "--" + re.split(r"[=.]", word[2:])[0].replace("_", "-")
    if re.match(r"-[A-Za-z]", word):
        if re.match(r"-O=?-", word):  # vLLM would take what follows for an option of its own
            return word
        return "-O" if word.startswith("-O") else re.split(r"[=.]", word)[0]
    return None


def value_of(args: Iterable[str], name: str) -> str | None:
    """The last value given for an option in any of its spellings; None when it is not given."""
    words, found = list(args), None
    for position, word in enumerate(words):
        given = option(word)
        if given is None or SHORT.get(given, given) != name:
            continue
        following = words[position + 1] if position + 1 < len(words) else None
        found = word.partition("=")[2] if "=" in word else following
    return found


def laid_over(below: tuple[str, ...], above: tuple[str, ...]) -> tuple[str, ...]:
    """Two argument lists as one, in which an option of the second replaces that of the first."""
    if not below or not above:
        return below or above
    named = {option(word) for word in above} - {None}
    kept: list[str] = []
    keep = True
    for word in below:
        name = option(word)
        keep = name not in named if name is not None else keep
        if keep:
            kept.append(word)
    return (*kept, *above)
