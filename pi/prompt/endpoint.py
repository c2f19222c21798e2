"""Where a model is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Api = Literal["chat", "responses"]


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint: of a pod through a tunnel, or any other.

    `base_url` ends in "/v1" as a rule; `model` is the name it serves; `api` is "chat" for Chat Completions or
    "responses". `last_log_line` is asked when the model dies under an answer; it gives None when there is no log.
    """

    base_url: str
    model: str
    api_key: str = field(repr=False)
    api: Api = "chat"
    last_log_line: Callable[[], str | None] | None = field(default=None, repr=False)
