"""What pi may not show: the values of the keys and tokens in its environment, and others it was told of."""

from __future__ import annotations

import os
from functools import lru_cache

from pi.on_pod.redact import NAMES, Redactor, Secrets

_told: set[str] = set()


def also(value: str) -> None:
    """Treat this value as a secret too, as long as this process lives."""
    _told.add(value)


def secrets() -> Secrets:
    """All values that are secret now."""
    return _secrets(frozenset(_told | {os.environ.get(name, "") for name in NAMES}))


def redacted(text: str) -> str:
    """The text with every secret in it as `***`."""
    return secrets().hide(text)


def stream() -> Redactor:
    """Does the same to a stream."""
    return Redactor(secrets())


@lru_cache(maxsize=4)
def _secrets(values: frozenset[str]) -> Secrets:
    return Secrets(values)
