"""Jump hosts: a ProxyCommand that gives each of them pi's options, as `ssh -J` would not."""

from __future__ import annotations

import shlex
from pathlib import Path

from pi.errors import InputError
from pi.ssh.settings import read_settings, trust

MAX_JUMPS = 8


def jump_command(hops: list[str], own_file: Path, timeout_s: int) -> str:
    """Return a ProxyCommand through jump hosts. Their host keys are checked and remembered like the pod's.

    Each hop reads "[user@]host[:port]". Raises InputError if the way to the first one does not end.
    """
    _check_end(hops[0])
    command = ""
    for hop in hops:
        words = _words(hop)
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(timeout_s),
            "ForwardAgent": "no",
            **trust(read_settings(words), own_file),
        }
        if command:
            options["ProxyCommand"] = command
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        command = f"{shlex.join(['ssh', *given]).replace('%', '%%')} -W '[%h]:%p' {shlex.join(words)}"
    return command


def _check_end(hop: str) -> None:
    """Raise InputError if the jumps lead in a circle: the first jump host may have a ProxyJump of its own."""
    for _ in range(MAX_JUMPS):
        jumps = read_settings(_words(hop)).get("proxyjump", ["none"])[0]
        if jumps == "none":
            return
        hop = jumps.split(",")[0]
    raise InputError(
        "jump-loop", f"the jumps lead through more than {MAX_JUMPS} hosts", "check ProxyJump in ~/.ssh/config"
    )


def _words(hop: str) -> list[str]:
    """Return the words after `ssh` for "[user@]host[:port]" or an ssh:// URL."""
    user, _, place = hop.removeprefix("ssh://").rpartition("@")
    host, _, port = place.rpartition(":") if place.count(":") == 1 else (place, "", "")
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.lstrip(":")
    return [*(["-l", user] if user else []), *(["-p", port] if port else []), "--", host or place]
