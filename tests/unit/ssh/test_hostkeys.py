"""Host keys: known files of all kinds, first sight, changed and revoked keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from paramiko import Ed25519Key, PKey, SSHClient

from pi.errors import HostKeyError
from pi.ssh import hostkeys


def key(folder: Path, name: str) -> PKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = folder / name
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return Ed25519Key.from_private_key_file(str(path))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hostkeys, "USER_FILE", tmp_path / "user_known_hosts")
    return tmp_path / "known_hosts"


def client(own: Path) -> SSHClient:
    made = SSHClient()
    hostkeys.prepare(made, own)
    return made


def meet(checking: SSHClient, host: str, seen: PKey) -> None:
    """Let a client see a host's key for the first time."""
    checking._policy.missing_host_key(checking, host, seen)  # type: ignore[attr-defined]  # not in the stubs


def recorded(checking: SSHClient, host: str) -> list[str]:
    found = checking.get_host_keys().lookup(host)
    return [hostkeys.fingerprint(one) for one in found.values()] if found else []


def test_a_new_host_is_remembered_once_in_a_private_file(own: Path, tmp_path: Path) -> None:
    first = key(tmp_path, "k")
    for _ in range(2):
        one = client(own)
        meet(one, "[h]:2222", first)
    assert own.read_text().count("\n") == 1 and own.stat().st_mode & 0o777 == 0o600
    assert recorded(client(own), "[h]:2222") == [hostkeys.fingerprint(first)]


def test_a_file_without_a_final_newline_does_not_glue_two_lines(own: Path, tmp_path: Path) -> None:
    old, new = key(tmp_path, "a"), key(tmp_path, "b")
    own.write_text(f"old {old.get_name()} {old.get_base64()}")
    hostkeys.remember(own, "new", new)
    assert recorded(client(own), "old") and recorded(client(own), "new")


def test_lines_that_cannot_be_read_do_not_hide_the_others_and_stay_as_they_are(own: Path, tmp_path: Path) -> None:
    good = key(tmp_path, "k")
    user = hostkeys.USER_FILE
    user.write_bytes(
        b"# comment\n@cert-authority *.x " + f"{good.get_name()} {good.get_base64()}\n".encode()
        + b"\xff\xfe broken\nhost ssh-ed25519 notbase64!\nhost\n@revoked\n"
        + f"h {good.get_name()} {good.get_base64()}\n".encode()
    )  # fmt: skip
    before = user.read_bytes()
    assert recorded(client(own), "h") == [hostkeys.fingerprint(good)]
    assert recorded(client(own), "*.x") == []
    assert user.read_bytes() == before


def test_a_revoked_key_is_refused(own: Path, tmp_path: Path) -> None:
    bad = key(tmp_path, "k")
    hostkeys.USER_FILE.write_text(f"@revoked * {bad.get_name()} {bad.get_base64()}\n")
    one = client(own)
    with pytest.raises(HostKeyError, match="revoked"):
        meet(one, "h", bad)
    assert not own.exists()


def test_a_hashed_entry_is_found(own: Path, tmp_path: Path) -> None:
    from paramiko.hostkeys import HostKeys

    known = key(tmp_path, "k")
    hostkeys.USER_FILE.write_text(f"{HostKeys.hash_host('secret.host')} {known.get_name()} {known.get_base64()}\n")
    assert recorded(client(own), "secret.host") == [hostkeys.fingerprint(known)]


def test_forgetting_a_host_keeps_the_others(own: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        hostkeys.remember(own, name, key(tmp_path, name))
    assert hostkeys.forget(own, "a") and not hostkeys.forget(own, "a")
    assert not recorded(client(own), "a") and recorded(client(own), "b")
