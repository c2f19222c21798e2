"""Host keys: an unknown pod is accepted once and remembered, a changed key is refused."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from paramiko import MissingHostKeyPolicy, SSHClient
from paramiko.hostkeys import HostKeyEntry, HostKeys

from pi.errors import HostKeyError, InputError
from pi.ssh.link import CAUSES

if TYPE_CHECKING:
    from paramiko import PKey


USER_FILE = Path("~/.ssh/known_hosts")


def fingerprint(key: PKey) -> str:
    """A key's fingerprint as OpenSSH prints it: `SHA256:` and unpadded base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def described(key: PKey) -> str:
    """A key's type and fingerprint, as pods.json keeps it."""
    return f"{key.get_name()} {fingerprint(key)}"


def prepare(client: SSHClient, own_file: Path, *, strict: bool = False, pinned: str = "") -> AcceptNew:
    """Make a client check host keys: by the user's known_hosts, then by pi's own file, else accept-new.

    A host that neither file has must show the key that is `pinned` (see `described`), where one is. With `strict`
    it is refused (OpenSSH's `StrictHostKeyChecking yes`). Returns what decides on such a host.
    """
    policy = AcceptNew(own_file, strict, pinned)
    lines = [(path, line) for path in (own_file, USER_FILE.expanduser()) for line in _lines(path)]
    policy.revoked = {line.entry.key.asbytes() for _, line in lines if line.entry and line.marker == "@revoked"}
    known = client.get_host_keys()
    for path, line in lines:
        if line.entry is None:
            policy.unread.setdefault(str(path), []).append(line.number)
        elif line.marker is None and line.entry.key.asbytes() not in policy.revoked:
            for name in line.entry.hostnames:
                known.add(name, line.entry.key.get_name(), line.entry.key)
                if path != own_file:
                    policy.of_user.add(name, line.entry.key.get_name(), line.entry.key)
    client.set_missing_host_key_policy(policy)
    return policy


def check(own_file: Path, hostname: str, shown: PKey, *, pinned: str = "") -> AcceptNew:
    """Check the key of a connection that is open already, as that of one which `prepare` had made ready.

    Raises HostKeyError. `hostname` is as known_hosts has it.
    """
    client = SSHClient()
    policy = prepare(client, own_file, pinned=pinned)
    recorded = client.get_host_keys().lookup(hostname)
    if recorded is None:
        policy.missing_host_key(client, hostname, shown)
    elif recorded.get(shown.get_name()) != shown:
        old = recorded.get(shown.get_name()) or next(iter(recorded.values()))
        raise refusal(client, own_file, hostname, shown, old)
    return policy


class _Line(NamedTuple):
    """A line of a known_hosts file; `entry` is None where it cannot be read."""

    number: int
    marker: str | None
    entry: HostKeyEntry | None


def _lines(path: Path) -> Iterator[_Line]:
    """Lines of a known_hosts file that say something."""
    try:
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        words = line.split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else None
        try:
            entry = HostKeyEntry.from_line(" ".join(words) if marker else line.strip())
        except Exception:  # whatever paramiko makes of one bad line, the others still count
            entry = None
        yield _Line(number, marker, entry)


class AcceptNew(MissingHostKeyPolicy):
    """Remembers the key of a host that was never seen before (OpenSSH's `StrictHostKeyChecking accept-new`)."""

    def __init__(self, own_file: Path, strict: bool = False, pinned: str = "") -> None:
        self._own_file = own_file
        self._strict = strict
        self._pinned = pinned
        self.revoked: set[bytes] = set()
        self.of_user = HostKeys()
        """What the user's own known_hosts has; pi does not change that file."""
        self.unread: dict[str, list[int]] = {}
        """Numbers of the lines that could not be read, by file."""
        self.accepted: str | None = None
        """Fingerprint of a key that was new, pinned by nothing, and has been remembered."""

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        if key.asbytes() in self.revoked:
            raise _revoked(hostname, key)
        if self._strict:
            raise HostKeyError(
                "host-key-unknown",
                f"the host key of {hostname} is not known: {fingerprint(key)}",
                "your ssh settings say StrictHostKeyChecking yes; compare the fingerprint with the provider's, "
                f"and add it: ssh-keyscan -p PORT HOST >> {USER_FILE}",
            )
        if self._pinned not in ("", described(key)):
            shown = f"{hostname} shows another host key than at its setup: {described(key)}, on record {self._pinned}"
            raise HostKeyError("host-key-changed", shown, CAUSES, True)
        remember(self._own_file, hostname, key)
        if not self._pinned:
            self.accepted = fingerprint(key)


def _revoked(hostname: str, key: PKey) -> HostKeyError:
    return HostKeyError(
        "host-key-revoked",
        f"{hostname} shows a host key that your known_hosts marks as revoked: {fingerprint(key)}",
        "do not use this machine; ask whoever revoked the key, or end the pod at the provider",
    )


def refusal(client: SSHClient, own_file: Path, hostname: str, shown: PKey, recorded: PKey) -> HostKeyError:
    """The error for a host that shows another key than is on record for it, with the way on.

    `hostname` is as known_hosts has it. Where pi's own record may be replaced, the error is `replaceable`.
    """
    policy: AcceptNew = client._policy  # type: ignore[attr-defined]
    if shown.asbytes() in policy.revoked:
        return _revoked(hostname, shown)
    old, new = fingerprint(recorded), fingerprint(shown)
    message = f"{hostname} shows another host key than before: {new}, on record {old}"
    if shown.get_name() != recorded.get_name():
        message = (
            f"{hostname} shows a host key of a type that is not on record for it: {shown.get_name()} {new}; "
            f"on record: {recorded.get_name()} {old}"
        )
    by_user = policy.of_user.lookup(hostname)
    if by_user is not None and recorded in by_user.values():
        file = USER_FILE.expanduser()
        return HostKeyError(
            "host-key-changed", message, f"{CAUSES}; if it is a new machine: ssh-keygen -R '{hostname}' -f {file}"
        )
    return HostKeyError(
        "host-key-changed", message, f"{CAUSES}; if it is a new machine: ssh-keygen -R '{hostname}' -f {own_file}", True
    )


def remember(path: Path, hostname: str, key: PKey) -> None:
    """Append a host's key to a known_hosts file under a lock; the lines that are there stay as they are.

    Raises InputError where it cannot be written.
    """
    line = f"{hostname} {key.get_name()} {key.get_base64()}\n".encode()
    with _written(path):
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
    """Drop a host's keys from a known_hosts file; whether there was one.

    Raises InputError where it cannot be written.
    """
    with _written(path), contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().splitlines(keepends=True)
        kept = [line for line in lines if line.split(b" ", 1)[0] != hostname.encode()]
        file.seek(0)
        file.write(b"".join(kept))
        file.truncate()
        return len(kept) < len(lines)
    return False


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "see what is there: it should be a file of yours, on a disk with room"
        raise InputError(
            "known-hosts-unwritable", f"cannot write the host keys in {path}: {error.strerror}", hint
        ) from None


def known_name(host: str, port: int) -> str:
    """How known_hosts names a host: `host`, or `[host]:port` away from port 22."""
    return host if port == 22 else f"[{host}]:{port}"
