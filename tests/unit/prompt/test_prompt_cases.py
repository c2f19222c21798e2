"""Streams of tests/cases/streams over real HTTP, split at random and at every byte."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from pi.errors import PiError
from pi.prompt import chat_completions, responses
from pi.prompt.answer import Answer
from pi.prompt.client import Client
from tests.unit.prompt.conftest import Prompt, Said
from tests.unit.prompt.stream_cases import Case, cases, reply, split

CASES = cases()


def at_random(size: int) -> list[int]:
    return sorted(random.Random(size).sample(range(1, size), min(size - 1, 12)))


def at_every_byte(size: int) -> list[int]:
    return list(range(1, size))


def run(prompt: Prompt, case: Case, **options: Any) -> tuple[Said, PiError | None]:
    """Hold the conversation of a case, with streams split at random."""
    prompt.server.answer(*(split(reply(written), at_random) for written in case.replies))
    out, err = io.StringIO(), io.StringIO()
    failure, code = None, 1
    endpoint = prompt.endpoint(api=case.api)
    try:
        code = prompt(*case.messages, stdout=out, stderr=err, endpoint=endpoint, **case.options | options).code
    except PiError as error:
        failure, code = error, error.exit_code
    return Said(code, out.getvalue(), err.getvalue()), failure


def joined(said: Said, kind: str) -> str:
    return "".join(event["text"] for event in said.of(kind))


@pytest.mark.parametrize("name", CASES)
def test_a_stream_becomes_what_its_case_expects(prompt: Prompt, name: str) -> None:
    case = CASES[name]
    said, failure = run(prompt, case, output="json")
    end = said.of("turn_end")[-1]
    assert (failure.id if failure else "") == case.error, failure
    assert said.code == (case.exit if case.exit is not None else int(bool(case.error)))
    kinds = [event["type"] for event in said.events]
    assert ("error" in kinds) is (end["reason"] == "error") is bool(case.error)
    assert not case.error or kinds[-2:] == ["error", "turn_end"]
    if case.reason:
        assert end["reason"] == case.reason
    if case.text is not None:
        assert end["text"].strip() == case.text
    if case.thinking is not None:
        assert joined(said, "thinking").strip() == case.thinking
        assert case.thinking not in joined(said, "text")
    if case.calls is not None:
        assert [[event["name"], event["arguments"]] for event in said.of("tool_call")] == case.calls
    if case.rounds is not None:
        assert end["rounds"] == case.rounds
    for words in case.told:
        assert words in json.dumps([event["text"] for event in said.of("tool_result")], ensure_ascii=False)
    if case.sent is not None:
        messages = prompt.server.requests[-1].body["messages"]
        assert [[each["role"], each["content"]] for each in messages if each["role"] != "system"] == case.sent
    reported = [event["text"] for event in said.of("notice")]
    reported += [f"{event['text']}; {event['hint']}" for event in said.of("error")]
    for words in case.says:
        assert words in "\n".join(reported)
    for words in case.not_says:
        assert words not in "\n".join(reported)
    assert case.says or case.error or not reported, "a notice that no case expects"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.kind in ("V11", "V16")])
def test_quiet_prints_the_final_text_or_nothing(prompt: Prompt, name: str) -> None:
    case = CASES[name]
    said, failure = run(prompt, case, output="quiet")
    if failure:
        assert said.stdout == ""
    elif case.text is not None:
        assert said.stdout == case.text + "\n"
    for words in [] if failure else case.says:
        assert words in said.stderr


def streams() -> dict[str, str]:
    """Return each different stream of all cases once, as it is written, with its API."""
    written = {text.strip(): case.api for case in CASES.values() for text in case.replies}
    return {text: api for text, api in written.items() if not text.startswith(("refuse", "status"))}


def received(stream: Iterable[dict[str, Any]], api: str) -> Answer:
    answer = Answer(("ls", "read", "glob", "rg"))
    with contextlib.suppress(PiError):
        for item in stream:
            (responses if api == "responses" else chat_completions).read(item, answer)
    answer.close()
    return answer


def test_every_stream_may_be_split_at_every_byte(prompt: Prompt, client: Callable[..., Client]) -> None:
    """One connection carries all streams, each byte in a chunk of its own."""
    lines = {api: client(api=api) for api in ("chat", "responses")}
    for written, api in streams().items():
        whole = reply(written)
        body: dict[str, Any] = {"messages": []} if api == "chat" else {"input": "x"}
        prompt.server.answer(whole)
        expected = received(lines[api].stream(body), api)
        prompt.server.answer(split(whole, at_every_byte))
        assert received(lines[api].stream(body), api) == expected, written
