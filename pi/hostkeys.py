"""Host keys: an unknown pod is accepted once and remembered, a changed key is refused."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from paramiko import MissingHostKeyPolicy, SSHClient
from paramiko.hostkeys import HostKeyEntry

from pi.errors import HostKeyError

if TYPE_CHECKING:
    from paramiko import PKey

USER_FILE = Path("~/.ssh/known_hosts")


def fingerprint(key: PKey) -> str:
    """A key's fingerprint as OpenSSH prints it: `SHA256:` and unpadded base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def prepare(client: SSHClient, own_file: Path) -> None:
    """Make a client check host keys: by the user's known_hosts, then by pi's own file, else accept-new."""
    revoked: set[bytes] = set()
    known = client.get_host_keys()
    for path in (own_file, USER_FILE.expanduser()):
        for marker, entry in _entries(path):
            if marker == "@revoked":
                revoked.add(entry.key.asbytes())
            elif marker is None:
                for name in entry.hostnames:
                    known.add(name, entry.key.get_name(), entry.key)
    client.set_missing_host_key_policy(AcceptNew(own_file, revoked))


def _entries(path: Path) -> Iterator[tuple[str | None, HostKeyEntry]]:
    """Readable lines of a known_hosts file with their marker; what cannot be read is passed over."""
    try:
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split(None, 1)
        marker = words[0] if words and words[0].startswith("@") else None
        try:
            entry = HostKeyEntry.from_line(words[1] if marker and len(words) > 1 else line)
        except Exception:  # noqa: S112 - whatever paramiko makes of one bad line, the others still count
            continue
        if entry is not None and entry.key is not None:
            yield marker, entry


class AcceptNew(MissingHostKeyPolicy):
    """Remembers the key of a host that was never seen before (OpenSSH's `StrictHostKeyChecking accept-new`)."""

    def __init__(self, own_file: Path, revoked: set[bytes]) -> None:
        self._own_file = own_file
        self._revoked = revoked
        self.accepted: str | None = None
        """Fingerprint of a key that was new and has been remembered."""

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        if key.asbytes() in self._revoked:
            raise HostKeyError(f"{hostname} shows a host key that your known_hosts marks as revoked")
        remember(self._own_file, hostname, key)
        self.accepted = fingerprint(key)


def remember(path: Path, hostname: str, key: PKey) -> None:
    """Append a host's key to a known_hosts file under a lock; the lines that are there stay as they are."""
    line = f"{hostname} {key.get_name()} {key.get_base64()}\n".encode()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        if line in content:
            return
        file.write((b"\n" if content and not content.endswith(b"\n") else b"") + line)


def forget(path: Path, hostname: str) -> bool:
    """Drop a host's keys from a known_hosts file; whether there was one."""
    if not path.exists():
        return False
    with path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().splitlines(keepends=True)
        kept = [line for line in lines if line.split(b" ", 1)[0] != hostname.encode()]
        file.seek(0)
        file.write(b"".join(kept))
        file.truncate()
    return len(kept) < len(lines)


def known_name(host: str, port: int) -> str:
    """How known_hosts names a host: `host`, or `[host]:port` away from port 22."""
    return host if port == 22 else f"[{host}]:{port}"
