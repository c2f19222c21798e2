"""Cases of tests/cases/streams: what a server sends, and what `pi prompt` makes of it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.rig.cases import CASES, load, names
from tests.unit.prompt.conftest import Reply, delta, error, sse, usage

FOLDER = CASES / "streams"


@dataclass(frozen=True)
class Case:
    """One conversation; tests/cases/streams/README.md explains the keys."""

    about: str
    kind: str
    source: str
    replies: list[str]
    messages: list[str] = field(default_factory=lambda: ["What is here?"])
    options: dict[str, Any] = field(default_factory=dict)
    api: str = "chat"
    exit: int | None = None
    error: str = ""
    reason: str = ""
    text: str | None = None
    thinking: str | None = None
    calls: list[Any] | None = None
    rounds: int | None = None
    says: list[str] = field(default_factory=list)
    not_says: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    sent: list[list[str]] | None = None


def cases() -> dict[str, Case]:
    return {name: load(Case, FOLDER / f"{name}.toml") for name in names(FOLDER)}


def reply(written: str) -> Reply:
    """Return the answer that a case describes, whole in one piece."""
    lines = written.strip().splitlines()
    first, *rest = lines
    if refusal := re.fullmatch(r"(?:refuse|status) (\d+)(?: while ([a-z-]+))?(?: (.*))?", first):
        body = json.loads("\n".join(rest)) if rest else {"error": {"message": refusal[3], "code": int(refusal[1])}}
        return replace(error(int(refusal[1]), body), when=WHILE[refusal[2]] if refusal[2] else None)
    torn = lines[-1] == "torn"
    return Reply([b"".join(map(_event, lines[: -1 if torn else None]))], whole=not torn)


def _event(line: str) -> bytes:
    word, _, rest = line.partition(" ")
    if line.startswith(('{"type": "response.', "raw ")):
        return sse(json.loads(line.removeprefix("raw ")), done=False)
    if line.startswith("{"):
        fields = json.loads(line)
        return sse(delta(fields.pop("finish", None), **fields), done=False)
    if word == "finish":
        return sse(delta(rest), done=False)
    if word == "usage":
        return sse(usage(*map(int, rest.split())), done=False)
    assert word == "done", f"no line of a stream: {line}"
    return sse()


def _roles(body: Any) -> list[str]:
    return [message["role"] for message in body["messages"]]


def _sent_calls(body: Any) -> list[Any]:
    return [call for message in body["messages"] for call in message.get("tool_calls", ())]


def _is_object(written: str) -> bool:
    try:
        return isinstance(json.loads(written), dict)
    except ValueError:
        return False


def _alternates(body: Any) -> bool:
    roles = _roles(body)
    return all(role == ("user", "assistant")[number % 2] for number, role in enumerate(roles))


WHILE: dict[str, Callable[[Any], bool]] = {
    "system": lambda body: "system" in _roles(body),
    "roles-do-not-alternate": lambda body: not _alternates(body),
    "long-ids": lambda body: not all(re.fullmatch("[A-Za-z0-9]{9}", call["id"]) for call in _sent_calls(body)),
    "invalid-arguments": lambda body: not all(_is_object(call["function"]["arguments"]) for call in _sent_calls(body)),
    "invalid-names": lambda body: (
        not all(re.fullmatch("[A-Za-z0-9_-]{1,64}", call["function"]["name"]) for call in _sent_calls(body))
    ),
    "several-calls": lambda body: any(len(message.get("tool_calls", ())) > 1 for message in body["messages"]),
    "tools": lambda body: "tools" in body,
    "tool-role": lambda body: "tool" in _roles(body),
    "max-tokens": lambda body: body.get("max_tokens", 10**9) > 9352,
    "max-tokens-after-tools": lambda body: "tool" in _roles(body) and body.get("max_tokens", 10**9) > 8384,
    "max_tokens-is-named": lambda body: "max_tokens" in body,
}
"""What a server refuses in a request."""


def split(whole: Reply, cuts: Callable[[int], list[int]]) -> Reply:
    """Return the same answer, cut at the positions for its size."""
    [data] = whole.pieces
    assert isinstance(data, bytes)
    positions = [0, *cuts(len(data)), len(data)]
    return replace(whole, pieces=[data[start:end] for start, end in itertools.pairwise(positions)])
