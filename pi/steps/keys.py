"""Read PI_API_KEY and HF_TOKEN from the environment."""

from __future__ import annotations

import os
import secrets

from pi import redaction
from pi.errors import InputError

KEY_MINIMUM = 16

SECRET_MAXIMUM = 4096
"""Longest key or token in characters; servers reject headers a few times as long."""

MAKE_ONE = 'export your key, or make one: pi pods setup NAME "ssh ..." --generate-key'


def api_key() -> str:
    """Return PI_API_KEY. Raises InputError, which never shows the value, if it cannot be used."""
    key = os.environ.get("PI_API_KEY", "")
    if not key.strip():
        raise InputError("api-key-missing", "PI_API_KEY is not set", MAKE_ONE)
    if not all("!" <= character <= "~" for character in key):
        raise InputError(
            "api-key-invalid", "PI_API_KEY contains a blank or a non-ASCII character", f"unset it, then {MAKE_ONE}"
        )
    if len(key) < KEY_MINIMUM:
        raise InputError(
            "api-key-too-short", f"PI_API_KEY is shorter than {KEY_MINIMUM} characters", f"unset it, then {MAKE_ONE}"
        )
    if len(key) > SECRET_MAXIMUM:
        raise InputError(
            "api-key-too-long", f"PI_API_KEY is longer than {SECRET_MAXIMUM} characters", "servers reject such headers"
        )
    return key


def new_api_key() -> str:
    """Make a key that pi hides in all its output. Raises InputError if PI_API_KEY is set."""
    if os.environ.get("PI_API_KEY", "").strip():
        raise InputError(
            "api-key-set",
            "PI_API_KEY is already set, and --generate-key would make another key",
            "unset it, or remove --generate-key",
        )
    key = f"sk-{secrets.token_urlsafe(32)}"
    redaction.add(key)
    return key


def hf_token() -> str | None:
    """Return HF_TOKEN, or None if it is "none" (only open or local models). Raises InputError if it cannot be used."""
    given = os.environ.get("HF_TOKEN", "")
    if not given.strip():
        raise InputError(
            "hf-token-missing",
            "HF_TOKEN is not set",
            "export one (https://huggingface.co/settings/tokens), or HF_TOKEN=none for open and local models only",
        )
    if not all("!" <= character <= "~" for character in given):
        raise InputError("hf-token-invalid", "HF_TOKEN contains a blank or a non-ASCII character", "copy it again")
    if len(given) > SECRET_MAXIMUM:
        raise InputError("hf-token-too-long", f"HF_TOKEN is longer than {SECRET_MAXIMUM} characters", "copy it again")
    return None if given == "none" else given
