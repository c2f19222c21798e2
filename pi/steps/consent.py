"""Ask the user on a terminal before something is stopped, deleted or takes several pods."""

from __future__ import annotations

from pi import screen
from pi.errors import InputError


def require(question: str, unasked: InputError, refused: InputError) -> None:
    """Raise `unasked` if nobody can be asked, `refused` if the user does not agree."""
    if not screen.can_ask():
        raise unasked
    if not agrees(question):
        raise refused


def agrees(question: str) -> bool:
    return screen.ask(f"{question} [y/N]").lower() in ("y", "yes")
