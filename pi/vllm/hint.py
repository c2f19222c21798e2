"""The shape of a hint for a failed start, and how it follows from the start."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pi.vllm.start_facts import StartFacts

MOST_WAYS = 3
"""A hint names at most so many ways out, the best first."""

Values = Mapping[str, object | None]


@dataclass(frozen=True)
class Hint:
    """One kind of failure: its stable id, the words in the log that show it, and what to do about it.

    `why` and `ways` may contain placeholders: {0} for a group of the pattern, a property of StartFacts such as
    {more_memory}, {card}, {vllm}, {venv}, or a name from `derive`. pi leaves out a way with a placeholder that has no
    value, and a way that the start already had.
    """

    id: str
    pattern: str
    why: str
    ways: tuple[str, ...] = ()
    derive: Callable[[re.Match[str]], Values] | None = None

    def text(self, match: re.Match[str], facts: StartFacts) -> str:
        """Return the hint in one line."""
        values = _values(match, facts) | dict(self.derive(match) if self.derive else {})
        ways = [way for each in self.ways if (way := _filled(each, values)) and not facts.already(way)]
        if facts.raw:
            ways = [way for way in map(_as_raw, ways) if way]
        why = _filled(self.why, values) or self.why
        ways = list(dict.fromkeys(ways))
        return f"{why}: {_listed(ways[:MOST_WAYS])}" if ways else why


def _values(match: re.Match[str], facts: StartFacts) -> dict[str, object | None]:
    groups: dict[str, object | None] = {str(index): text for index, text in enumerate(match.groups())}
    names = ("more_memory", "less_memory", "more_gpus", "fewer_gpus", "fewer_sequences", "shorter_context", "smaller")
    facts_by_name = {name: getattr(facts, name) for name in names}
    version = f"vLLM {facts.version}" if facts.version else "this vLLM"
    return {**groups, **facts_by_name, "venv": facts.venv, "card": facts.card or "the pod's GPU", "vllm": version}


def _filled(text: str, values: Values) -> str | None:
    """Return a text with its placeholders replaced, or None if one has no value."""
    missing = [name for name in _PLACEHOLDER.findall(text) if values.get(name) in (None, "")]
    return None if missing else _PLACEHOLDER.sub(lambda name: str(values[name[1]]), text)


_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def _listed(ways: list[str]) -> str:
    """Return ways in one sentence; the first that is a flag of `pi start` says so."""
    first = next((index for index, way in enumerate(ways) if way.startswith("--")), None)
    shown = [f"pi start ... {way}" if index == first else way for index, way in enumerate(ways)]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])}, or {shown[-1]}"


def _as_raw(way: str) -> str | None:
    """Return a way for a start with --vllm, which takes no --set, --memory, --context and --variant."""
    if "--variant" in way:
        return None
    if not way.startswith("--"):
        return way
    variables = " ".join(re.findall(r"--env \S+", way))
    arguments = as_vllm_words(re.sub(r"--env \S+ ?", "", way)).strip()
    return " ".join(filter(None, (variables, "--vllm ...", arguments)))


def as_vllm_words(text: str) -> str:
    """Return a text with the flags of `pi start` replaced by the arguments of `vllm serve` that mean the same."""
    text = re.sub(r"--memory (\d{1,3})%", lambda found: f"--gpu-memory-utilization {int(found[1]) / 100:g}", text)
    text = re.sub(r"--context (\d+)", r"--max-model-len \1", text)
    text = re.sub(r"--gpus (\d+)", r"--tensor-parallel-size \1", text)
    return re.sub(r"--set ([\w.-]+)(?:=(\S+?(?=[,;)]?(?:\s|$))))?", _argument, text)


def _argument(found: re.Match[str]) -> str:
    return f"--{found[1]} {found[2]}" if found[2] else f"--{found[1]}"
