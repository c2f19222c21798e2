"""The secrets of the environment: PI_API_KEY and HF_TOKEN."""

from __future__ import annotations

import os
import secrets

from pi import redaction
from pi.errors import InputError

KEY_MINIMUM = 16

SECRET_MAXIMUM = 4096
"""Characters of a key or token; servers refuse headers of more than a few times as many."""

MAKE_ONE = 'export the one you have, or make one: pi pods setup NAME "ssh ..." --generate-key'


def api_key() -> str:
    """`PI_API_KEY`, checked. Raises InputError naming the variable, never its value."""
    key = os.environ.get("PI_API_KEY", "")
    if not key.strip():
        raise InputError("PI_API_KEY is not set", MAKE_ONE)
    if not all("!" <= character <= "~" for character in key):
        raise InputError("PI_API_KEY holds a blank or a character outside ASCII", f"unset it, then {MAKE_ONE}")
    if len(key) < KEY_MINIMUM:
        raise InputError(f"PI_API_KEY is shorter than {KEY_MINIMUM} characters", f"unset it, then {MAKE_ONE}")
    if len(key) > SECRET_MAXIMUM:
        raise InputError(f"PI_API_KEY is longer than {SECRET_MAXIMUM} characters", "servers refuse such headers")
    return key


def new_api_key() -> str:
    """A key made now, hidden from here on in all that pi prints. Raises InputError where there is one already."""

    if os.environ.get("PI_API_KEY", "").strip():
        raise InputError(
            "PI_API_KEY is set already, and --generate-key would make another",
            "unset it to have a new one, or leave out --generate-key",
        )
    key = f"sk-{secrets.token_urlsafe(32)}"
    redaction.also(key)
    return key


def hf_token() -> str | None:
    """`HF_TOKEN`, checked; None for the word `none`, which says that only open or local models are used."""
    given = os.environ.get("HF_TOKEN", "")
    if not given.strip():
        raise InputError(
            "HF_TOKEN is not set",
            "export one (https://huggingface.co/settings/tokens), or HF_TOKEN=none for open and local models only",
        )
    if not all("!" <= character <= "~" for character in given):
        raise InputError("HF_TOKEN holds a blank or a character outside ASCII", "copy it again")
    if len(given) > SECRET_MAXIMUM:
        raise InputError(f"HF_TOKEN is longer than {SECRET_MAXIMUM} characters", "copy it again")
    return None if given == "none" else given
