"""What a deployment answers to, and how a user calls it."""

from __future__ import annotations

import json
import shlex

import pytest

from pi.errors import InputError
from pi.pods import apis


@pytest.mark.parametrize("api", apis.APIS)
def test_example_calls_the_first_route_with_the_key(api: str) -> None:
    words = shlex.split(apis.example(api, "m", "http://192.0.2.1:8001/v1", "$PI_API_KEY"))
    address = "http://192.0.2.1:8001" + apis.APIS[api].routes[0]
    assert words[:7] == ["printf", "Authorization: Bearer %s", "$PI_API_KEY", "|", "curl", address, "-H"]
    assert words[7] == "@-"
    if "-d" in words:
        assert json.loads(words[words.index("-d") + 1])["model"] == "m"
    else:
        assert "model=m" in words


def test_only_chats_may_be_prompted() -> None:
    for api in ("chat", "responses", "an API of a later pi"):
        apis.require_chat("m", api)
    with pytest.raises(InputError, match="m answers to texts with their embeddings") as caught:
        apis.require_chat("m", "embedding")
    assert "/v1/embeddings" in caught.value.render()


@pytest.mark.parametrize("value", [None, 7, "", "x", ["chat"]])
def test_other_values_are_chats(value: object) -> None:
    assert apis.known(value) == "chat"
