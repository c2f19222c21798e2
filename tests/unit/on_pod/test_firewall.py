"""The table of a pod's firewall: what passes, and why a pod may not have it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pi.on_pod import firewall
from pi.on_pod.firewall import Part


def test_the_table_has_the_parts_of_all_models() -> None:
    text = firewall.rules([Part(["10.0.0.7", "fd00::0007"], [8001, 22]), Part([], [8002])])
    assert "ip saddr { 10.0.0.7 } accept\n" in text and "ip6 saddr { fd00::7 } accept\n" in text
    assert "tcp dport { 22, 8001, 8002 } accept\n" in text
    assert text == firewall.rules([Part([], [8002]), Part(["fd00::7", "10.0.0.7"], [22, 8001])])
    assert text != firewall.rules([Part([], [8002])])


@pytest.mark.parametrize("member", ["10.0.0.7 } accept; flush ruleset", "10.0.0.0/8", "b", ""])
def test_a_member_is_an_address(member: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        firewall.rules([Part([member], [22])])


NFT = "#!/bin/sh\ncat >/dev/null\necho '{said}' >&2\nexit 1\n"

PROBLEMS = {
    "Error: Could not process rule: Operation not permitted": "its container may not change the firewall (no CAP_NET_ADMIN)",
    "Error: Could not process rule: No such file or directory": "Error: Could not process rule: No such file or directory",
    "": "nft failed",
}


@pytest.mark.parametrize(("said", "problem"), PROBLEMS.items())
def test_a_pod_that_may_not_says_why(said: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nft"
    program.write_text(NFT.format(said=said))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert firewall.objection() == problem


SUDO = {
    "lets it": ("exit 0", None),
    "asks for a password": ("echo 'sudo: a password is required' >&2; exit 1", "sudo: a password is required"),
}


@pytest.mark.parametrize(("does", "problem"), SUDO.values(), ids=SUDO)
def test_another_user_needs_a_sudo_that(
    does: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("nft", "exit 2"), ("sudo", f'cat >/dev/null; echo "sudo $*" >{tmp_path}/words; {does}')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert firewall.objection() == problem
    assert (tmp_path / "words").read_text() == f"sudo -n {tmp_path}/nft -c -f -\n"


def test_a_pod_without_nft_gets_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "PATH", "")
    monkeypatch.setenv("PATH", "")
    assert firewall.objection() == "it has no nft; as root there: apt-get install -y nftables"


def test_a_model_whose_rules_fail_leaves_no_part(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".pi" / "run" / "big").mkdir(parents=True)
    monkeypatch.setattr(firewall, "PATH", "")
    monkeypatch.setenv("PATH", "")
    assert firewall.close("big", ["10.0.0.7"], 8001) == firewall.MISSING
    assert not list((home / ".pi" / "run" / "big").iterdir()) and not firewall.is_closed("big")
    assert firewall.reopen("big") is None
