"""Hide secrets in output: the keys and tokens in pi's environment, and values added at run time."""

from __future__ import annotations

import os
from functools import lru_cache

from pi.on_pod.redact import NAMES, Redactor, Secrets

_added: set[str] = set()


def add(value: str) -> None:
    """Treat this value as a secret until this process ends."""
    _added.add(value)


def secrets() -> Secrets:
    """Return all current secrets."""
    return _secrets(frozenset(_added | {os.environ.get(name, "") for name in NAMES}))


def redacted(text: str) -> str:
    """Return the text with `***` in place of every secret."""
    return secrets().hide(text)


def stream() -> Redactor:
    """Return a redactor for a stream of text."""
    return Redactor(secrets())


@lru_cache(maxsize=4)
def _secrets(values: frozenset[str]) -> Secrets:
    return Secrets(values)
