"""What became of each key in a login that was refused, by ssh's log."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
from datetime import datetime
from pathlib import Path

from pi.text import one_line


def key_fates(log: str) -> list[str]:
    """Return one phrase for each key that ssh considered: what became of it. Empty for the login at a jump host."""
    if "debug1: Authentications that can continue" not in log:
        return []
    fates: dict[str, str] = {}
    for line in log.splitlines():
        for pattern, fate in _FATES:
            if found := re.search(pattern, line):
                fates[_name(found[1])] = fate.format(*found.groups())
    for name, fate in fates.items():
        if name.endswith(".pub") and fate != "refused":
            fates[name] = _PUBLIC
        elif fate in (_TRIED, _ACCEPTED, _NO_KEY_INSIDE) and Path(name).is_file():
            fates[name] = _unusable(name) or fate
        elif fate == "refused" and re.search(rf"{re.escape(name)} \S+-CERT ", log):
            fates[name] = _invalid_certificate(f"{name}-cert.pub") or fate
    known = [f"{name}: {fate}" for name, fate in fates.items() if fate != _TRIED]
    if "Next authentication method: publickey" not in log:
        return [NO_KEYS_ALLOWED]
    return [one_line(fate, 200) for fate in known] or [NO_KEY]


NO_KEY = "no key to offer"

NO_KEYS_ALLOWED = "your ssh configuration switches keys off"

_TRIED = "tried"

_ACCEPTED = "accepted, but the login was refused"

_LOCKED = "it needs its passphrase"

_OPEN = "ssh ignores it because others may read it"

_PUBLIC = "it is the public key"

_NO_KEY_INSIDE = "it contains no private key"

_WINDOWS = "it has Windows line ends"

_UNSIGNED = "the agent did not sign"

_FATES = (
    (r"debug1: Offering public key: (.+)", "refused"),
    (r"debug1: Server accepts key: (.+)", _ACCEPTED),
    (r"sign_and_send_pubkey: signing failed for \S+ \"(.+?)\".*?: (.+)", _UNSIGNED + " ({1})"),
    (r"debug1: Trying private key: (.+)", _TRIED),
    (r"no such identity: (.+?): (.+)", "{1}"),
    (r"Identity file (.+?) not accessible: (.+)\.", "{1}"),
    (r"Load key \"(.+?)\": (.+)", "{1}"),
    (r"Load key \"(.+?)\": (?:error in libcrypto|invalid format)", _NO_KEY_INSIDE),
    (r"Load key \"(.+?)\": bad permissions", _OPEN),
    (r"debug1: Skipping \S+ key (.+?) - (.+)", "not offered ({1})"),
    (r"Permissions \S+ for '(.+?)' are too open", _OPEN),
)
"""What a line of ssh's log says about the key of its first group; a later line counts more."""


def _name(described: str) -> str:
    """Return the file or comment of a key that ssh describes as `FILE TYPE SHA256:... explicit agent`."""
    return re.sub(r" (?:[A-Z0-9-]+ )?SHA256:\S+.*$", "", described)


def _unusable(name: str) -> str | None:
    """Return why ssh cannot use a private key, or None if it can."""
    asked = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", name], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if "passphrase" in asked.stderr:
        return _LOCKED
    if "bad permissions" in asked.stderr:
        return _OPEN
    if asked.returncode == 0:
        return None
    return _WINDOWS if b"\r\n" in Path(name).read_bytes() else _NO_KEY_INSIDE


def _invalid_certificate(path: str) -> str | None:
    """Return why a server refuses a certificate, if its file says so."""
    asked = subprocess.run(["ssh-keygen", "-L", "-f", path], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    until = re.search(r"Valid: from \S+ to (\S+)", asked.stdout)
    with contextlib.suppress(ValueError):
        if until and datetime.fromisoformat(until[1]) < datetime.now():
            return f"its certificate expired at {until[1]}"
    names = re.search(r"Principals: *\n((?: {16,}\S+\n)+)", asked.stdout)
    return f"refused; its certificate is for {', '.join(names[1].split())}" if names else None


def key_hint(fates: list[str]) -> str:
    """Return the next step after a refused login."""
    for fate in fates:
        name, _, reason = fate.partition(": ")
        if name.endswith(".pub"):
            return f"name the private key: -i {shlex.quote(name[:-4])}"
        if reason == _LOCKED:
            return f"give it to the agent: ssh-add {shlex.quote(name)}"
        if reason == _OPEN:
            return f"chmod 600 {shlex.quote(name)}"
        if reason == _WINDOWS:
            return f"convert it: sed -i 's/\\r$//' {shlex.quote(name)}"
        if reason.startswith(_UNSIGNED):
            return "unlock the agent, or confirm or touch the key when it asks"
        if "PubkeyAcceptedAlgorithms" in reason:
            return "add the type of the key to PubkeyAcceptedAlgorithms in ~/.ssh/config"
        if "its certificate" in reason:
            return "get a new certificate for the user that you log in as"
        if re.search("No such file|Permission denied|no private key", reason):
            return "check the -i of the ssh command"
    if fates == [NO_KEYS_ALLOWED]:
        return "check PubkeyAuthentication and PreferredAuthentications in ~/.ssh/config"
    if fates == [NO_KEY]:
        return "name the key with -i, or give it to the agent: ssh-add KEY"
    return "add your public key to the machine, or name another key with -i"
