"""Read the key of the models, and HF_TOKEN.

The key is PI_API_KEY; after "!", the output of a command; without the variable, the content of a private file in pi's
folder.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
from functools import lru_cache
from pathlib import Path

from pi import config, redaction, screen
from pi.errors import InputError

KEY_MINIMUM = 16

SECRET_MAXIMUM = 4096
"""Longest key or token in characters; servers reject headers a few times as long."""

COMMAND_S = 30
"""Time for a command that prints the key: a password manager may ask its user."""

MAKE_ONE = 'export your key, or make one: pi pods setup NAME "ssh ..." --generate-key'


def api_key() -> str:
    """Return the key. Raises InputError, which never shows the value, if it cannot be used."""
    given = os.environ.get("PI_API_KEY", "")
    if given.startswith("!"):
        return _from_command(given[1:])
    if given.strip():
        return _checked(given, "PI_API_KEY")
    saved = _saved()
    if saved is None:
        raise InputError("api-key-missing", "PI_API_KEY is not set", MAKE_ONE)
    redaction.add(saved)
    return _checked(saved, str(key_file()))


def reference() -> str:
    """Return how a shell names the key without showing it."""
    given = os.environ.get("PI_API_KEY", "")
    return "$PI_API_KEY" if given.strip() and not given.startswith("!") else "$(pi key show)"


def key_file() -> Path:
    return config.config_dir() / "key"


def new_api_key() -> str:
    """Make a key that pi hides in all its output. Raises InputError if there is one already."""
    if os.environ.get("PI_API_KEY", "").strip():
        raise InputError(
            "api-key-set",
            "PI_API_KEY is already set, and --generate-key would make another key",
            "unset it, or remove --generate-key",
        )
    if _saved() is not None:
        raise InputError(
            "api-key-saved",
            f"{key_file()} already has a key, and --generate-key would make another one",
            "delete it, or remove --generate-key",
        )
    return made()


def made() -> str:
    """Return a random key that pi hides in all its output."""
    key = f"sk-{secrets.token_urlsafe(32)}"
    redaction.add(key)
    return key


def save(key: str) -> None:
    """Write a new key into its private file. Raises InputError if that fails."""
    path = key_file()
    try:
        config.make_private(path.parent)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{key}\n")
    except OSError as error:
        hint = "export the key yourself"
        raise InputError("key-file-unwritable", f"cannot write {path}: {error.strerror}", hint) from None


def hf_token() -> str | None:
    """Return HF_TOKEN, which may be "none", or None if it is not set. Raises InputError if it cannot be used."""
    given = os.environ.get("HF_TOKEN", "")
    if not given.strip():
        return None
    if not all("!" <= character <= "~" for character in given):
        raise InputError("hf-token-invalid", "HF_TOKEN contains a blank or a non-ASCII character", "copy it again")
    if len(given) > SECRET_MAXIMUM:
        raise InputError("hf-token-too-long", f"HF_TOKEN is longer than {SECRET_MAXIMUM} characters", "copy it again")
    return given


def for_setup(generate: bool) -> tuple[str | None, str]:
    """Return HF_TOKEN and the key, or a new one. Raises InputError, which names both if both are missing."""
    token = hf_token()
    if token is None and not generate and not _has_key():
        raise InputError(
            "secrets-missing",
            "HF_TOKEN and PI_API_KEY are not set",
            f"{MAKE_ONE}; only gated models need HF_TOKEN (https://huggingface.co/settings/tokens)",
        )
    key = new_api_key() if generate else api_key()
    if token is None:
        screen.note("note: HF_TOKEN is not set; without one on the pod, only open and local models can start")
    return token, key


def _has_key() -> bool:
    return bool(os.environ.get("PI_API_KEY", "").strip()) or _saved() is not None


def _checked(key: str, source: str) -> str:
    if not all("!" <= character <= "~" for character in key):
        raise InputError(
            "api-key-invalid", f"{source} contains a blank or a non-ASCII character", f"unset it, then {MAKE_ONE}"
        )
    if len(key) < KEY_MINIMUM:
        raise InputError(
            "api-key-too-short", f"{source} is shorter than {KEY_MINIMUM} characters", f"unset it, then {MAKE_ONE}"
        )
    if len(key) > SECRET_MAXIMUM:
        raise InputError(
            "api-key-too-long", f"{source} is longer than {SECRET_MAXIMUM} characters", "servers reject such headers"
        )
    return key


@lru_cache(maxsize=1)
def _from_command(command: str) -> str:
    """Return the key that a command prints. It runs once, without a shell. Raises InputError."""
    hint = "try it in a terminal; PI_API_KEY is ! and a command that prints only the key"
    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_S)
    except (ValueError, IndexError):
        raise InputError("api-key-command-invalid", "PI_API_KEY is not a command after its !", hint) from None
    except subprocess.TimeoutExpired:
        raise InputError("api-key-command-late", f"the command of PI_API_KEY took over {COMMAND_S} s", hint) from None
    except OSError as error:
        failed = f"cannot run the command of PI_API_KEY: {error.strerror}"
        raise InputError("api-key-command-failed", failed, hint) from None
    if done.returncode:
        raise InputError(
            "api-key-command-failed", f"the command of PI_API_KEY exited with status {done.returncode}", hint
        )
    key = done.stdout.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    redaction.add(key)
    return _checked(key, "the output of PI_API_KEY's command")


def _saved() -> str | None:
    """Return the content of the key's file, or None if there is none. Raises InputError if others can read it."""
    path = key_file()
    try:
        if path.stat().st_mode & 0o077:
            raise InputError("key-file-open", f"other users can read {path}", f"chmod 600 {shlex.quote(str(path))}")
        return path.read_text("utf-8", "replace").strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError("key-file-unreadable", f"cannot read {path}: {error.strerror}") from None


def keep_new(key: str) -> None:
    """Save the key that setup made, and print it this once."""
    try:
        save(key)
        screen.say(f"the key of your models is in {key_file()}; pi key show prints it; wherever you call them:")
    except InputError as error:
        screen.note(error.render())
        screen.say("the key of your models, shown only now; keep it, and set it wherever you call them:")
    screen.reveal(f"  export PI_API_KEY={key}")
