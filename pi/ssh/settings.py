"""What the user's configuration says about a host, as `ssh` itself reads it, and whom pi trusts there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from pi.errors import InputError

Settings = dict[str, list[str]]
"""Values by lower-case key."""


def read_settings(words: list[str]) -> Settings:
    """Return what ssh would do with these words (`ssh -G`). Raises InputError."""
    asked = subprocess.run(["ssh", "-G", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if asked.returncode:
        said = [line for line in asked.stderr.splitlines() if line.strip()]
        reason = said[0] if said else "no reason given"
        raise InputError(
            "ssh-config-unreadable", f"ssh cannot use this command: {reason}", "change that line of ~/.ssh/config"
        )
    settings: Settings = {}
    for line in asked.stdout.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key.lower(), []).append(value)
    return settings


def trust(settings: Settings, own_file: Path) -> dict[str, str]:
    """Return the options for host keys: new ones are accepted, unless the user's settings are stricter.

    ssh adds them to pi's own file, with readable names, and asks the user's files as well.
    """
    strict = settings.get("stricthostkeychecking", ["ask"])[0] in ("true", "yes")
    return {
        "StrictHostKeyChecking": "yes" if strict else "accept-new",
        "UserKnownHostsFile": _known_hosts(settings.get("userknownhostsfile", [""])[0], own_file),
        "HashKnownHosts": "no",
        "UpdateHostKeys": "no",
    }


def _known_hosts(users: str, own_file: Path) -> str:
    """Return pi's own file and the user's, each in quotes; `ssh -G` prints paths with spaces without them."""
    files = [escaped(own_file), *re.split(r" (?=[/~%$])", users)]
    return " ".join(f'"{file}"' for file in files if file not in ("", "none"))


def escaped(path: Path) -> str:
    """Return a path as ssh's options read it, where % begins a token."""
    return str(path).replace("%", "%%")
