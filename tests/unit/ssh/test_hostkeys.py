"""Host keys: what ssh's log says of them, refusals, and pi's own known_hosts file.

The texts of refusals are in tests/cases/ssh.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pi.errors import InputError
from pi.ssh import hostkeys

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGi/33XyESUixSPL+X7Cp0RvqXfnMNH1L1OqkjFWCPYL"
OLD = "SHA256:38NiHlEfoUVEecDGU0cxKZRBkEnf4MCMne9dUTI8FKs"
NEW = "SHA256:diO2G4G5Jf4XeLM5ftt/9ZfPjPcZxwUPZd04kEsmKsk"
NAME = "[203.0.113.7]:2222"
CHANGED = f"""\
The fingerprint for the ED25519 key sent by the remote host is
{NEW}.
Offending ED25519 key in {{file}}:{{line}}
Host key for {{name}} has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


@pytest.mark.parametrize(
    ("log", "key"),
    [
        (f"debug1: Server host key: ssh-ed25519 {NEW}\n", f"ssh-ed25519 {NEW}"),
        (
            f'debug1: Server host certificate: ssh-ed25519-cert-v01@openssh.com {NEW}, serial 0 ID "pod" CA ssh-rsa {OLD}\n',
            f"ssh-ed25519 {NEW}",
        ),
        ("debug1: Connecting to h [203.0.113.7] port 22.\n", ""),
    ],
    ids=["key", "certificate", "none"],
)
def test_the_host_key_is_read_from_the_log(log: str, key: str) -> None:
    assert hostkeys.shown(log) == key
    assert hostkeys.accepted(log) is None
    added = log + f"Warning: Permanently added '{NAME}' (ED25519) to the list of known hosts.\n"
    assert hostkeys.accepted(added) == (NEW if key else None)


def test_a_login_that_failed_otherwise_is_no_refusal(own: Path) -> None:
    assert hostkeys.refusal("root@h: Permission denied (publickey).\n", own, NAME) is None


@pytest.mark.parametrize("name", [NAME, "my-pod"], ids=["address", "alias"])
def test_a_changed_key_in_pis_own_file_can_be_replaced(own: Path, name: str) -> None:
    own.write_text(f"# a comment\n{name} {KEY}\n")
    refused = hostkeys.refusal(CHANGED.format(file=own, line=2, name=name), own, name)
    assert refused and refused.replaceable
    assert refused.message == f"{name} shows another host key than before: {NEW}, on record {OLD}"


def test_the_key_of_a_jump_host_or_of_the_user_is_not_pis_to_replace(own: Path, tmp_path: Path) -> None:
    users = tmp_path / "my known hosts"
    for file in (own, users):
        file.write_text(f"{NAME} {KEY}\n")
    jumps = hostkeys.refusal(CHANGED.format(file=own, line=1, name="[203.0.113.9]:22"), own, NAME)
    assert jumps and not jumps.replaceable
    refused = hostkeys.refusal(CHANGED.format(file=users, line=1, name=NAME), own, NAME)
    assert refused and not refused.replaceable
    assert refused.hint and refused.hint.endswith(f"ssh-keygen -R '{NAME}' -f '{users}'")


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff\xfe\n", f"{NAME}\n".encode(), f"{NAME} ssh-ed25519 not-base64\n".encode()],
    ids=["no such line", "no text", "no key", "no base64"],
)
def test_a_record_that_cannot_be_read_is_reported_so(own: Path, line: bytes) -> None:
    own.write_bytes(line)
    refused = hostkeys.refusal(CHANGED.format(file=own, line=1, name=NAME), own, NAME)
    assert refused and refused.message.endswith(f"{NEW}, on record an unreadable one")


def test_a_marked_line_has_its_fingerprint_too(own: Path) -> None:
    own.write_text(f"@cert-authority {NAME} {KEY}\n")
    refused = hostkeys.refusal(CHANGED.format(file=own, line=1, name=NAME), own, NAME)
    assert refused and OLD in refused.message


def test_a_key_that_is_not_the_one_of_the_setup_shows_both() -> None:
    error = hostkeys.not_pinned(NAME, f"ssh-ed25519 {NEW}", f"ssh-ed25519 {OLD}")
    assert (error.id, error.replaceable) == ("host-key-changed", True)
    assert NEW in error.message and OLD in error.message


def test_forgetting_a_host_keeps_all_other_lines(own: Path) -> None:
    others = f"# mine\n203.0.113.7 {KEY}\n[203.0.113.7]:22222 {KEY}\n\xe9 broken"
    own.write_text(f"{NAME} {KEY}\n{others}", "latin-1")
    assert hostkeys.forget(own, NAME) and not hostkeys.forget(own, NAME)
    assert own.read_text("latin-1") == others


def test_forgetting_without_a_file_makes_none(own: Path) -> None:
    assert not hostkeys.forget(own, NAME)
    assert not own.exists()


def test_a_file_that_cannot_be_written_is_an_error(own: Path) -> None:
    own.mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        hostkeys.forget(own, NAME)
    with pytest.raises(InputError) as raised:
        hostkeys.check_written(f"Failed to add the host to the list of known hosts ({own}).\n")
    assert raised.value.id == "known-hosts-unwritable" and str(own) in raised.value.message


def test_known_hosts_name_a_port_unless_it_is_22() -> None:
    assert hostkeys.name_of("h", 22) == "h"
    assert hostkeys.name_of("::1", 2222) == "[::1]:2222"
