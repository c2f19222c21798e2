"""Host keys: pi's own known_hosts file, and the errors for keys that ssh refuses."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pi.errors import HostKeyError, InputError

USER_FILE = Path("~/.ssh/known_hosts")

CAUSES = "either the provider put a new pod at this address (normal for rented pods) or someone is in between"


def shown(log: str) -> str:
    """Return the host key in ssh's log, as "TYPE SHA256:...", or "" if there is none; of a certificate, its key."""
    found = re.search(
        r"debug1: Server host (?:key|certificate): (\S+?)(?:-cert-v01@openssh\.com)? (SHA256:[^\s,]+)", log
    )
    return f"{found[1]} {found[2]}" if found else ""


def accepted(log: str) -> str | None:
    """Return the fingerprint of a host key that ssh added to pi's file."""
    if "Permanently added" not in log:
        return None
    return shown(log).partition(" ")[2] or None


def refusal(log: str, own_file: Path, known_name: str) -> HostKeyError | None:
    """Return the error if ssh refused a host key, else None.

    It is `replaceable` if pi's own file has the old key under `known_name`, and not that of a jump host.
    """
    if "Host key verification failed" not in log:
        return None
    key = re.search(r"SHA256:\S+", log[log.rfind("fingerprint for") :]) if "fingerprint for" in log else None
    new = key[0].rstrip(".") if key else shown(log).partition(" ")[2]
    name = _host_in(log)
    if revoked := re.search(r"marked as revoked|REVOKED HOST KEY|revoked by file (.+)", log):
        return HostKeyError(
            "host-key-revoked",
            f"{name} shows a host key that {revoked[1] or 'your known_hosts'} marks as revoked: {new}",
            "do not use this machine; ask whoever revoked the key, or end the pod at the provider",
        )
    if offending := re.search(r"Offending \S+ key in (.+):(\d+)", log):
        file, line = Path(offending[1]), int(offending[2])
        return _changed(name, new, file, line, name == known_name and file == own_file)
    reason = re.search(r"^Certificate invalid: (.+)", log, re.MULTILINE)
    because = f"; its certificate is not valid ({reason[1]})" if reason else ""
    return HostKeyError(
        "host-key-unknown",
        f"the host key of {name} is not known: {new}{because}",
        "your ssh settings say StrictHostKeyChecking yes; compare the fingerprint with the provider's, "
        f"and add it: ssh-keyscan {_scan_words(name)} >> {USER_FILE}",
    )


def _scan_words(name: str) -> str:
    """Return the words of ssh-keyscan for a name in known_hosts."""
    found = re.fullmatch(r"\[(.+)\]:(\d+)", name)
    return f"-p {found[2]} {shlex.quote(found[1])}" if found else shlex.quote(name)


def _changed(name: str, new: str, file: Path, line: int, replaceable: bool) -> HostKeyError:
    message = f"{name} shows another host key than before: {new}, on record {_fingerprint_in(file, line)}"
    if not file.exists():  # such as KnownHostsCommand-HOSTNAME
        fix = f"change what {file} says"
    elif _is_pattern(file, line):
        fix = f"remove line {line} of {file}"
    else:
        fix = f"ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(str(file))}"
    return HostKeyError("host-key-changed", message, f"{CAUSES}; if it is a new machine: {fix}", replaceable)


def _is_pattern(file: Path, line: int) -> bool:
    """Return whether a line is for several hosts, so that `ssh-keygen -R` does not find it."""
    return bool(re.search(r"[*?!]", _line_of(file, line).removeprefix("@cert-authority ").partition(" ")[0]))


def _fingerprint_in(path: Path, line_number: int) -> str:
    """Return the fingerprint of the key in a line of a known_hosts file, or "an unreadable one"."""
    words = _line_of(path, line_number).split()
    key = " ".join(words[2:4] if words[:1] and words[0].startswith("@") else words[1:3])
    asked = subprocess.run(["ssh-keygen", "-l", "-f", "-"], input=key + "\n", capture_output=True, text=True)
    return next((word for word in asked.stdout.split() if word.startswith("SHA256:")), "an unreadable one")


def _line_of(path: Path, number: int) -> str:
    """Return a line of a known_hosts file, or "" if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").splitlines()[number - 1]
    except (OSError, IndexError):
        return ""


def not_pinned(name: str, key: str, pinned: str) -> HostKeyError:
    """Return the error for a host that shows another key than at its setup."""
    text = f"{name} shows another host key than at its setup: {key}, on record {pinned}"
    return HostKeyError("host-key-changed", text, CAUSES, True)


def _host_in(log: str) -> str:
    found = re.search(r"[Hh]ost key (?:for|is known for) (\S+) (?:has changed|is marked|was revoked|and you have)", log)
    if found:
        return found[1]
    found = re.search(r"Authenticating to (\S+?):(\d+) as", log)
    return name_of(found[1], int(found[2])) if found else "the host"


def check_written(log: str) -> None:
    """Raise InputError if ssh could not write the host key into pi's file: then nothing would notice another one."""
    found = re.search(r"Failed to add the host to the list of known hosts \((.+)\)", log)
    if found:
        raise _unwritable(Path(found[1]), "ssh cannot add a line")


def forget(path: Path, hostname: str) -> bool:
    """Drop a host's keys from a known_hosts file; return whether there was one.

    Raises InputError if it cannot be written.
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
        raise _unwritable(path, error.strerror or "unknown error") from None


def _unwritable(path: Path, reason: str) -> InputError:
    hint = "check what is there: it should be a file of yours, on a disk with space"
    return InputError("known-hosts-unwritable", f"cannot write the host keys in {path}: {reason}", hint)


def name_of(host: str, port: int) -> str:
    """Return how known_hosts names a host: `host`, or `[host]:port` if the port is not 22."""
    return host if port == 22 else f"[{host}]:{port}"
