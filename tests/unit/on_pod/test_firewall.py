"""The table of a pod's firewall: what passes, and why a pod may not have it."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from pi.on_pod import firewall, process, records
from pi.on_pod.firewall import Part


def test_the_table_has_the_parts_of_all_models() -> None:
    text = firewall.rules([Part(["10.0.0.7", "fd00::0007"], [8001, 22]), Part([], [8002])])
    assert "ip saddr { 10.0.0.7 } accept\n" in text and "ip6 saddr { fd00::7 } accept\n" in text
    assert "tcp dport { 22, 8001, 8002 } accept\n" in text
    assert text == firewall.rules([Part([], [8002]), Part(["fd00::7", "10.0.0.7"], [22, 8001])])
    assert text != firewall.rules([Part([], [8002])])


@pytest.mark.parametrize(
    "member", ["10.0.0.7 } accept; flush ruleset", "10.0.0.0/8", "fe80::1%x } accept; flush ruleset", "b", ""]
)
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


class Kernel:
    """Stands in for nft: keeps the text of the last table."""

    def __init__(self) -> None:
        self.table = ""
        self.inserted: list[str] = []
        self.problem: str | None = None
        self.alters = False

    def __call__(self, words: list[str], given: str = "") -> firewall._Answer:
        if words[0] == "list":
            return firewall._Answer(self.table, None if self.table else "No such file or directory")
        if given.startswith("insert"):
            self.inserted.append(given)
            return firewall._Answer("", None if self.table else "No such file or directory")
        if self.problem:
            return firewall._Answer("", self.problem)
        self.table = given.partition("{")[2].replace("comment" if self.alters else "", "")
        return firewall._Answer("", None)

    @property
    def open_ports(self) -> list[int]:
        listed = self.table.partition("tcp dport { ")[2].partition(" }")[0]
        return [int(port) for port in listed.split(", ") if port]


@pytest.fixture
def kernel(home: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(firewall, "_nft", made)
    monkeypatch.setattr(process, "public_listeners", lambda: {22})
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    for name in ("big", "other", "small"):
        (home / ".pi" / "run" / name).mkdir(parents=True)
    return made


def test_the_part_of_a_model_ends_with_the_boot(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert firewall.close("big", ["10.0.0.7"], 8001) is None and kernel.open_ports == [22, 8001]
    kernel.table = ""
    monkeypatch.setattr(process, "boot", lambda: "another/1")
    monkeypatch.setattr(process, "public_listeners", lambda: {2222})
    firewall.admit("small", 8002)
    with firewall.passing("10.0.0.7", 9000):
        pass
    assert kernel.table == "" and kernel.inserted == []
    assert firewall.close("other", ["10.0.0.8"], 8003) is None
    assert kernel.open_ports == [2222, 8003] and "10.0.0.7" not in kernel.table


def test_a_table_that_another_program_removed_comes_back_by_a_start_alone(kernel: Kernel) -> None:
    firewall.close("big", ["10.0.0.7"], 8001)
    kernel.table = ""
    firewall.admit("small", 8002)
    with firewall.passing("10.0.0.7", 9000):
        pass
    assert kernel.table == "" and kernel.inserted == []
    firewall.close("big", ["10.0.0.7"], 8001)
    firewall.admit("small", 8002)
    with firewall.passing("10.0.0.9", 9000):
        assert "ip saddr { 10.0.0.9 } accept" in kernel.inserted[0]
    assert kernel.open_ports == [22, 8001, 8002]


def test_the_port_of_sshd_passes_although_no_program_listens_on_it(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "public_listeners", set)
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.9 50000 10.0.0.6 2200")
    firewall.close("big", ["10.0.0.7"], 8001)
    assert kernel.open_ports == [2200, 8001]
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.9 50001 10.0.0.6 2201")
    assert firewall.is_closed("big"), "the rules of another call are not those of another program"
    firewall.admit("small", 8002)
    assert kernel.open_ports == [2200, 2201, 8001, 8002]


def test_rules_that_cannot_be_removed_go_with_a_later_stop(kernel: Kernel) -> None:
    firewall.close("big", ["10.0.0.7"], 8001)
    kernel.problem = "sudo: a password is required"
    said = f"sudo: a password is required; as root there: nft delete table inet {firewall.table()}"
    assert firewall.reopen("big") == said and firewall.reopen("big") == said
    kernel.problem = None
    assert firewall.reopen("big") is None and kernel.table == ""
    assert firewall.reopen("big") is None


def test_rules_that_the_kernel_does_not_keep_are_undone(kernel: Kernel) -> None:
    kernel.alters = True
    assert firewall.close("big", ["10.0.0.7"], 8001) == "the rules are not in the kernel"
    assert kernel.table == ""
    kernel.alters = False
    firewall.close("other", ["10.0.0.9"], 8002)
    kernel.alters = True
    assert firewall.close("big", ["10.0.0.7"], 8001) == "the rules are not in the kernel"
    assert "10.0.0.7" not in kernel.table and "10.0.0.9" in kernel.table


def test_the_rules_of_a_model_without_its_folder_go_with_it(kernel: Kernel, home: Path) -> None:
    firewall.close("big", ["10.0.0.7"], 8001)
    shutil.rmtree(home / ".pi" / "run" / "big")
    assert firewall.reopen("big") is None and kernel.table
    assert firewall.renew() is None and kernel.table == ""


def test_a_table_without_its_model_does_not_decide_which_ports_are_open(kernel: Kernel, home: Path) -> None:
    firewall.close("big", ["10.0.0.7"], 8001)
    shutil.rmtree(home / ".pi" / "run" / "big")
    firewall.close("other", ["10.0.0.9"], 8002)
    assert kernel.open_ports == [22, 8002]


def test_the_ports_between_ranks_of_another_model_stay_closed(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has removed the rules meanwhile."""
    record: Any = {"name": "big", "port": 8001, "rank": 0, "session": 77}
    monkeypatch.setattr(records, "load_all", lambda: [record, {"name": "small", "port": 8003, "session": 78}])
    monkeypatch.setattr(records, "living", lambda record: [record["session"]])
    monkeypatch.setattr(process, "public_listeners", lambda: {22, 8001, 29500, 8003})
    monkeypatch.setattr(process, "public_ports", lambda pids: {8001, 29500} if 77 in pids else set())
    firewall.close("other", ["10.0.0.9"], 8002)
    assert kernel.open_ports == [22, 8001, 8002, 8003]


def test_a_stop_leaves_the_rules_of_a_start_at_the_same_time(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    firewall.close("big", ["10.0.0.7"], 8001)
    reached, may_go = threading.Event(), threading.Event()

    def slowly(words: list[str], given: str = "") -> firewall._Answer:
        if given.startswith("add") and "{" not in given:
            reached.set()
            may_go.wait(30)
        return kernel(words, given)

    monkeypatch.setattr(firewall, "_nft", slowly)
    stopping = threading.Thread(target=firewall.reopen, args=("big",))
    stopping.start()
    assert reached.wait(30)
    starting = threading.Thread(target=firewall.close, args=("other", ["10.0.0.9"], 8002))
    starting.start()
    starting.join(0.3)
    may_go.set()
    stopping.join(30)
    starting.join(30)
    assert "10.0.0.9" in kernel.table and firewall.is_closed("other")
