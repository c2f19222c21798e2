"""ssh's messages in pi's words: the logs in tests/cases/ssh, and what shells of a pod do before pi's first command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from pi.ssh import hostkeys
from pi.ssh.messages import MESSAGES, Attempt, explained, shell_failure, shell_silence
from tests.rig.cases import CASES, load, names
from tests.rig.hostile import is_clean

FOLDER = CASES / "ssh"

OWN_FILE = Path("/home/ada/.pi/known_hosts")


@dataclass(frozen=True)
class Case:
    """The keys of a case (tests/cases/ssh/README.md)."""

    about: str
    source: str
    log: str
    id: str
    message: str
    hint: str | None = None
    where: str = "203.0.113.7:22"
    known_hosts: str = ""


def read(name: str) -> Case:
    return load(Case, FOLDER / f"{name}.toml")


@pytest.mark.parametrize("name", names(FOLDER))
def test_log_gives_the_error(name: str, tmp_path: Path) -> None:
    case = read(name)
    file = tmp_path / "known_hosts"
    if case.known_hosts:
        file.write_text(case.known_hosts + "\n")
    log = case.log.replace("<known_hosts>", str(file))
    host, _, port = case.where.partition(":")
    refused = hostkeys.refusal(log, OWN_FILE, hostkeys.name_of(host, int(port)))
    error = refused or explained(Attempt(case.where, 10, log))
    message, hint = (text and text.replace(str(file), "<known_hosts>") for text in (error.message, error.hint))
    assert (error.id, message, hint) == (case.id, case.message, case.hint)


def test_every_message_has_a_case() -> None:
    """The first match counts, so a message that no case reaches may be hidden by another."""
    logs = [read(name).log for name in names(FOLDER)]
    first = {next((m for m in MESSAGES if re.search(m.pattern, log, re.MULTILINE)), None) for log in logs}
    assert [message.pattern for message in MESSAGES if message not in first] == []


@pytest.mark.parametrize("name", ["key_refused", "http_server", "proxy_failed", "unknown_message"])
def test_hostile_text_of_a_server_is_made_safe(name: str) -> None:
    case = read(name)
    hostile = "\x1b]0;owned\x07{0.__class__}\u202e" + "x" * 5000
    log = re.sub(r"stranger|HTTP/1.1|no tunnel|something", lambda _: hostile, case.log)
    assert log != case.log
    error = explained(Attempt(case.where, 10, log))
    assert error.id == case.id and is_clean(error.message) and len(error.message) < 1000


def as_user(user: str) -> str:
    return f"ssh -l {user} 203.0.113.7"


@pytest.mark.parametrize(
    ("noise", "user"),
    [
        ('Please login as the user "ubuntu" rather than the user "root".\n\n', "ubuntu"),
        ("Please login as the user ec2-user.\n", "ec2-user"),
        ("please log in as the user 'x' instead", None),
        ("Please login as the user -oProxyCommand=id", None),
    ],
    ids=["AWS", "without quotes", "other quotes", "an option"],
)
def test_a_sentence_about_another_user_leads_to_the_command_with_it(noise: str, user: str | None) -> None:
    error = shell_failure("203.0.113.7:22", noise, 142, as_user)
    assert error.id == ("other-user" if user else "login-shell-exited")
    if user:
        assert error.hint == f"log in as that user: pi pods setup NAME 'ssh -l {user} 203.0.113.7'"


@pytest.mark.parametrize(
    ("noise", "status", "message"),
    [
        ("", 1, "the login shell on h:22 ended with status 1"),
        ("hello\n\x1b[31mno commands here\x1b[0m\n\n", 3, "ended with status 3; it wrote: no commands here"),
        ("", None, "the login shell on h:22 ended early"),
    ],
    ids=["silent", "with words", "without status"],
)
def test_a_shell_that_ends_is_reported_with_its_last_line(noise: str, status: int | None, message: str) -> None:
    error = shell_failure("h:22", noise, status, as_user)
    assert (error.id, error.message.endswith(message)) == ("login-shell-exited", True), error.message


@pytest.mark.parametrize(
    ("answer", "waits", "id", "message"),
    [
        ("pi-asks-zsh\n", False, "start-up-other-shell", "starts another shell (zsh)"),
        ("pi-asks-/usr/bin/bash\n", False, "start-up-other-shell", "starts another shell (bash)"),
        ("pi-asks--zsh\n", False, "start-up-other-shell", "starts another shell (zsh)"),
        ("fish: $0 is not the current process\n", False, "start-up-other-shell", "starts another shell (fish)"),
        ("", True, "start-up-files-ask", "waits for input; it last wrote: Update now?"),
        ("", False, "start-up-files-slow", "took longer than 30 s; it last wrote: Update now?"),
        ("selfish: no\n", False, "start-up-files-slow", "took longer than 30 s; it last wrote: Update now?"),
    ],
)
def test_start_up_files_that_do_not_end_are_told_apart(answer: str, waits: bool, id: str, message: str) -> None:
    error = shell_silence("h:22", "Update now?\n", 30, answer, waits=waits)
    assert error.id == id
    assert error.message.endswith(message)
    assert "~/.bashrc" in str(error.hint)


def test_no_message_hides_a_placeholder() -> None:
    known = {"where", "timeout", "keys", "key_hint"}
    for message in MESSAGES:
        used = set(re.findall(r"\{(\w+)\}", message.means + (message.hint or "")))
        assert {name for name in used if not name.isdigit()} <= known, message.pattern
        assert all(int(name) < re.compile(message.pattern).groups for name in used if name.isdigit()), message.pattern
