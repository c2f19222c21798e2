"""Requests of one conversation have one session, those of others another."""

from __future__ import annotations

from typing import Any

import pytest

from pi.affinity import session_of

SYSTEM = {"role": "system", "content": "You are an agent."}


def chat(*words: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[place % 2], "content": word} for place, word in enumerate(words)]
    return {"model": "m", "messages": [SYSTEM, *turns]}


CONVERSATIONS = {
    "a chat grows": (chat("fix it"), chat("fix it", "done", "thanks")),
    "parts and pictures": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant"}]},
    ),
    "Anthropic's system prompt": (
        {"system": "s", "messages": [{"role": "user", "content": "a"}]},
        {"system": "s", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ),
    "the Responses API": (
        {"instructions": "s", "input": [{"role": "user", "content": "a"}]},
        {"instructions": "s", "input": [{"role": "user", "content": "a"}, {"type": "function_call", "name": "x"}]},
    ),
    "a key of the client": ({"prompt_cache_key": "k", "input": "a"}, {"prompt_cache_key": "k", "input": "b"}),
}


@pytest.mark.parametrize(("earlier", "later"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation_keeps_its_session(earlier: dict[str, Any], later: dict[str, Any]) -> None:
    assert session_of(earlier) == session_of(later)


def test_conversations_with_one_system_prompt_differ() -> None:
    bodies = [
        chat("a"),
        chat("b"),
        {"system": "s", "messages": []},
        {"messages": None},
        {"input": "a"},
        {"input": "b"},
        {"prompt": "a"},
    ]
    assert len({session_of(body) for body in bodies}) == len(bodies)
