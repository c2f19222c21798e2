"""Notice a model that makes no progress: the same call with the same result, or unknown tools, again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from pi.prompt.fragments import is_object
from pi.prompt.history import Call, ToolMessage
from pi.prompt.schema import parsed
from pi.text import one_line

WARN = 3
"""Repetitions in a row after which the model gets a warning."""

STOP = 5
"""Repetitions in a row after which the turn ends."""


class Brake:
    """Counts repeated calls of a turn. The same call counts once in a round."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._tools: Collection[str] = ()
        self._times: Counter[tuple[str, str, str]] = Counter()
        self._round: set[tuple[str, str, str]] = set()
        self._unknown = 0
        self._round_is_unknown = True

    def begin_round(self, tools: Collection[str]) -> None:
        """Begin to count the calls of a message; `tools` are the names that exist."""
        self._tools = tools
        self._unknown = self._unknown + 1 if self._round and self._round_is_unknown else 0
        self._round.clear()
        self._round_is_unknown = True

    def word(self, call: Call, result: ToolMessage) -> str:
        """Count a call with its result; return what to tell the model, or an empty text.

        Sets `reason` if the turn must end.
        """
        if call.name in self._tools:
            self._round_is_unknown = False
        key = (call.name, _arguments(call), result.text)
        if key not in self._round:
            self._round.add(key)
            if key not in self._times:
                self._times = Counter(dict.fromkeys(self._times, 0))  # something new is progress
            self._times[key] += 1
        if (times := self._times[key]) >= WARN:
            self._note(times, f"made the same call of {one_line(call.name, 40)} with the same result")
            return _word(f"you made this call {times} times in a row, always with this result")
        if call.name not in self._tools and (times := self._unknown + 1) >= WARN:
            self._note(times, "called tools that do not exist")
            return _word(f"you called unknown tools {times} times in a row")
        return ""

    def _note(self, times: int, words: str) -> None:
        if times >= STOP:
            self.reason = f"the model {words} {times} times in a row"


def _word(words: str) -> str:
    return f"\n[{words}; do something else, or answer the user]"


def _arguments(call: Call) -> str:
    return repr(sorted(parsed(call.arguments).items())) if is_object(call.arguments) else call.arguments
