"""The fault table, rows about reaching a pod: no answer, no SSH, no login, another host key, odd shells and gateways.

One test (or a few) for each of the rows 15 to 19 and 41 to 43, named after it. Not injected on one machine:

- a name server that says no, and one that says nothing (15): which of the two this machine has is not the test's to
  choose, so either's words will do;
- `ssh.runpod.io` itself (42): a server that runs no commands, and one that opens no channel, stand for it; that its
  name is refused before any contact is in tests/unit/ssh/test_target.py;
- an account whose `.bashrc` calls `exit` (41) cannot be worked with: sshd hands every command to the login shell, and
  that ends before it. What is owed then is the shell's own words and the way on.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pi.ssh.local import CONNECT_TIMEOUT_S
from tests.rig import invariants, machine
from tests.rig.command import Done, Pi, login, program
from tests.rig.patience import patient
from tests.rig.pod import Pod, new_host_key
from tests.rig.skips import skip
from tests.ssh.conftest import NewPod, small_disk
from tests.ssh.test_connections import EMPTY, fab, fingerprint, logins, reach, run


@pytest.fixture(autouse=True)
def what_always_holds(pi: Pi, request: pytest.FixtureRequest) -> Iterator[None]:
    pods = [request.getfixturevalue("pod")] if "pod" in request.fixturenames else []
    yield
    invariants.hold([pi], pods)


VERBS = [
    ["list"],
    ["stop"],
    ["logs", "qwen"],
    ["start", "a/b", "--name", "q"],
    ["plan", "a/b"],
    ["models"],
    ["prompt", "qwen", "hi"],
    ["audit"],
    ["pods", "setup", "box"],
]
"""Every verb that contacts a pod."""


def knows_a_model(pi: Pi, ssh: str) -> bytes:
    """A pods.json with a model on the pod that is reached like this; its bytes."""
    entry: dict[str, Any] = {"model": "a/b", "port": 8001, "gpu": "0", "pid": 4242}
    pi.write({"pods": {"box": {"ssh": ssh, "models": {"qwen": entry}}}, "active": "box"})
    return pi.state_file.read_bytes()


def unreachable(pi: Pi, done: Done, before: bytes) -> str:
    """That a run failed because the pod could not be reached, said so in two lines, and changed nothing; the lines."""
    assert (done.code, done.out) == (3, ""), done
    message, way_on = [line for line in done.err.splitlines() if not line.startswith("trusting new host key ")]
    assert message.startswith("pi: cannot reach pod 'box': ")
    assert pi.state_file.read_bytes() == before
    return f"{message}\n{way_on}"


# --- servers that are no pods


@contextlib.contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where every caller gets this answer; then nothing more, for as long as the caller waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=32) as server, contextlib.ExitStack() as calls:

        def accept() -> None:
            while True:
                try:
                    caller = calls.enter_context(server.accept()[0])
                except OSError:
                    return
                threading.Thread(target=talk, args=(caller,), daemon=True).start()

        def talk(caller: socket.socket) -> None:
            with contextlib.suppress(OSError):
                answer(caller)

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def silence(caller: socket.socket) -> None:
    """No word."""


def trickle(caller: socket.socket) -> None:
    while True:
        caller.sendall(b"x")
        time.sleep(0.1)


def endless(caller: socket.socket) -> None:
    while True:
        caller.sendall(b"GARBAGE \x1b]0;owned\x07\r\n" * 500)


def http(caller: socket.socket) -> None:
    caller.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    caller.shutdown(socket.SHUT_WR)


def two_megabytes(caller: socket.socket) -> None:
    caller.sendall(b"\x1b[2J" + b"banner " * (2 << 20 >> 3) + b"\r\nSSH-2.0-late\r\n")


def hang_up(caller: socket.socket) -> None:
    caller.shutdown(socket.SHUT_RDWR)


def half_a_handshake(caller: socket.socket) -> None:
    caller.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")


# --- row 15: the pod is down


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_row_15_a_pod_that_is_down_is_reported_with_the_cause_and_both_ways_on(pi: Pi, words: list[str]) -> None:
    before = knows_a_model(pi, "ssh -p 1 root@127.0.0.1")
    done = pi(*words)
    assert (done.code, done.out.replace("setting up box: root@127.0.0.1:1\n", "")) == (3, "")
    message, ways = done.err.splitlines()
    assert message == "pi: cannot reach pod 'box': 127.0.0.1:1 refused the connection"
    assert ways.strip() == (
        "check the connection (ssh -p 1 root@127.0.0.1), or, if the pod is gone: pi pods remove box --force"
    )
    assert pi.state_file.read_bytes() == before


@pytest.mark.core
def test_row_15_no_removal_is_suggested_for_a_new_pod_that_is_down(pi: Pi) -> None:
    done = pi("pods", "setup", "new", "ssh -p 1 root@127.0.0.1")
    assert done.code == 3
    assert "cannot reach pod 'new': 127.0.0.1:1 refused the connection" in done.err
    assert "pods remove" not in done.err
    assert not pi.state_file.exists()


SILENT: list[tuple[str, Callable[[socket.socket], None], str]] = [
    ("says nothing", silence, "did not answer as an SSH server within 1 s"),
    ("never ends a line", trickle, "did not answer as an SSH server within 1 s"),
    ("hangs up", hang_up, "closed the connection during the login"),
    ("greets and stops", half_a_handshake, "did not finish its greeting within 1 s"),
]


@pytest.mark.parametrize(("answer", "told"), [case[1:] for case in SILENT], ids=[case[0] for case in SILENT])
def test_row_15_a_server_that_hangs_is_given_up_in_time(
    pi: Pi, answer: Callable[[socket.socket], None], told: str
) -> None:
    with listener(answer) as port:
        before = knows_a_model(pi, f"ssh -p {port} -o ConnectTimeout=1 root@127.0.0.1")
        began = time.monotonic()
        stopping, listing = pi.spawn("stop"), pi.spawn("list")
        for done in (stopping.ends(), listing.ends()):
            assert told in unreachable(pi, done, before)
        assert time.monotonic() - began < patient(25)


def test_row_15_an_address_that_drops_what_is_sent_is_given_up_in_time(pi: Pi) -> None:
    """A queue of callers that is full has the kernel drop further ones without a word, as a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as callers:
        for _ in range(4):
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        before = knows_a_model(pi, f"ssh -p {full.getsockname()[1]} -o ConnectTimeout=1 root@127.0.0.1")
        began = time.monotonic()
        assert "did not answer within 1 s" in unreachable(pi, pi("stop"), before)
        assert time.monotonic() - began < patient(8)


def test_row_15_a_host_name_that_leads_nowhere_is_reported(pi: Pi) -> None:
    before = knows_a_model(pi, "ssh -o ConnectTimeout=2 root@no-such-host.invalid")
    told = unreachable(pi, pi("list"), before)
    assert re.search(
        "the host name no-such-host.invalid does not exist|the host name no-such-host.invalid cannot be looked up now",
        told,
    )


# --- row 16: the host answers, and not as SSH


def test_row_16_what_an_http_server_said_is_quoted(pi: Pi) -> None:
    with listener(http) as port:
        before = knows_a_model(pi, f"ssh -p {port} root@127.0.0.1")
        told = unreachable(pi, pi("list"), before)
    assert f"127.0.0.1:{port} does not speak SSH; it said: HTTP/1.1 400 Bad Request" in told


@pytest.mark.parametrize("answer", [two_megabytes, endless], ids=["2 MB", "endless"])
def test_row_16_a_greeting_of_any_length_is_cut_and_made_safe(pi: Pi, answer: Callable[[socket.socket], None]) -> None:
    with listener(answer) as port:
        before = knows_a_model(pi, f"ssh -p {port} root@127.0.0.1")
        began = time.monotonic()
        told = unreachable(pi, pi("list"), before)
    assert time.monotonic() - began < patient(8)
    assert "does not speak SSH" in told
    assert "\x1b" not in told and len(told) < 500


def test_row_16_a_pod_that_greets_with_a_long_text_first_is_a_pod(pi: Pi, new_pod: NewPod, tmp_path: Path) -> None:
    banner = tmp_path / "banner"
    banner.write_text("UNAUTHORISED ACCESS IS PROHIBITED\n" * 4000)
    pod = new_pod(options=(f"Banner {banner}",))
    assert reach(pi, pod.ssh).out == EMPTY


# --- row 17: the login fails


@pytest.mark.core
def test_row_17_a_key_that_is_refused_is_named(pi: Pi, pod: Pod, new_pod: NewPod) -> None:
    other = new_pod("other", bare=True)
    done = reach(pi, f"ssh -p {pod.port} -i {other.key} {login()}@127.0.0.1")
    assert (done.code, done.out) == (3, "")
    told = f"127.0.0.1:{pod.port} refused the login of {login()} ({other.key}: refused)"
    assert told in done.err


def test_row_17_an_agent_that_is_not_running_is_reported(pi: Pi, pod: Pod) -> None:
    done = reach(pi, f"ssh -p {pod.port} {login()}@127.0.0.1", SSH_AUTH_SOCK="/nonexistent")
    assert (done.code, done.out) == (3, "")
    assert "(no key to offer)" in done.err
    assert "name the key with -i, or give it to the agent: ssh-add KEY" in done.err


def test_row_17_a_key_file_that_is_missing_is_named_and_the_agent_still_asked(pi: Pi, pod: Pod, agent: str) -> None:
    ssh = f"ssh -p {pod.port} -i {pi.home}/nothing {login()}@127.0.0.1"
    done = reach(pi, ssh)
    assert (done.code, done.out) == (3, "")
    assert f"({pi.home}/nothing: No such file or directory)" in done.err
    assert "check the -i of the ssh command" in done.err
    subprocess.run([machine.program("ssh-add"), "-q", pod.key], env={"SSH_AUTH_SOCK": agent}, check=True)
    assert reach(pi, ssh, SSH_AUTH_SOCK=agent).out == EMPTY


def test_row_17_a_public_key_is_reported_with_its_private_one(pi: Pi, pod: Pod) -> None:
    done = reach(pi, f"ssh -p {pod.port} -i {pod.key}.pub {login()}@127.0.0.1")
    assert (done.code, done.out) == (3, "")
    assert f"({pod.key}.pub: it is the public key)" in done.err
    assert f"name the private key: -i {pod.key}\n" in done.err.replace(",", "\n")


def test_row_17_a_public_key_names_the_one_of_the_agent_to_use(pi: Pi, pod: Pod, new_pod: NewPod, agent: str) -> None:
    other = new_pod("other", bare=True)
    subprocess.run([machine.program("ssh-add"), "-q", other.key, pod.key], env={"SSH_AUTH_SOCK": agent}, check=True)
    ssh = "ssh -p {} -o IdentitiesOnly=yes -i {}.pub {}@127.0.0.1"
    assert reach(pi, ssh.format(pod.port, pod.key, login()), SSH_AUTH_SOCK=agent).out == EMPTY
    assert reach(pi, ssh.format(pod.port, other.key, login()), SSH_AUTH_SOCK=agent).code == 3
    assert "Failed publickey" not in pod.log.read_text().split("Accepted publickey")[0]


def test_row_17_a_key_with_a_passphrase_is_reported_and_nothing_asked(pi: Pi, pod: Pod) -> None:
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", pod.key], check=True)
    done = reach(pi, pod.ssh)
    assert (done.code, done.out) == (3, "")
    assert f"({pod.key}: it needs its passphrase)" in done.err
    assert f"give it to the agent: ssh-add {pod.key}" in done.err
    subprocess.run(["ssh-keygen", "-q", "-p", "-m", "PEM", "-P", "secret", "-N", "secret", "-f", pod.key], check=True)
    assert f"({pod.key}: it needs its passphrase" in reach(pi, pod.ssh).err


def test_row_17_a_file_that_holds_no_key_is_reported(pi: Pi, pod: Pod) -> None:
    (pi.home / "key").write_bytes(b"\xff\x00 not a key")
    (pi.home / "key").chmod(0o600)
    done = reach(pi, f"ssh -p {pod.port} -i {pi.home}/key {login()}@127.0.0.1")
    assert (done.code, done.out) == (3, "")
    assert f"({pi.home}/key: it contains no private key)" in done.err


IS_ROOT = os.geteuid() == 0
AS_ANYONE = [machine.program("setpriv"), "--bounding-set=-dac_override,-dac_read_search"] if IS_ROOT else []
"""Before a command that root runs: it enters and reads what the modes of folders and files say, and no more."""


def test_row_17_a_key_in_a_folder_that_may_not_be_entered_is_reported(pi: Pi, pod: Pod) -> None:
    locked = pi.home / "locked"
    pi.ssh_config(f"IdentityFile {locked}/other\n")
    pi.write({"pods": {"box": {"ssh": f"ssh -p {pod.port} -i {locked}/key {login()}@127.0.0.1"}}, "active": "box"})
    locked.mkdir()
    locked.chmod(0)
    done = run(pi, *AS_ANYONE, program("pi"), "list")
    locked.chmod(0o700)
    assert (done.code, done.out) == (3, "")
    assert f"refused the login of {login()} ({locked}/" in done.err
    assert f"{locked}/key: Permission denied" in done.err


def test_row_17_an_unknown_user_is_reported_in_sshs_own_words(pi: Pi) -> None:
    done = reach(pi, "ssh -i ~nosuchuser/key root@127.0.0.1")
    assert (done.code, done.out) == (2, "")
    assert "ssh cannot use this command: tilde_expand: No such user" in done.err


def test_row_17_an_agent_with_too_many_keys_is_reported_with_the_way_out(pi: Pi, pod: Pod, agent: str) -> None:
    for number in range(7):
        key = pi.home / f"key{number}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"key{number}", "-f", key], check=True)
        subprocess.run([machine.program("ssh-add"), "-q", key], env={"SSH_AUTH_SOCK": agent}, check=True)
    done = reach(pi, f"ssh -p {pod.port} {login()}@127.0.0.1", SSH_AUTH_SOCK=agent)
    assert (done.code, done.out) == (3, "")
    assert "key0: refused" in done.err and "hung up" in done.err
    assert "name the one key that it knows: -i KEY -o IdentitiesOnly=yes" in done.err


def test_row_17_a_server_that_takes_no_keys_is_reported(pi: Pi, new_pod: NewPod) -> None:
    pod = new_pod(bare=True, options=("Match all", "PubkeyAuthentication no", "PasswordAuthentication yes"))
    done = reach(pi, pod.ssh)
    assert (done.code, done.out) == (3, "")
    assert f"accepts no keys for {login()}, only: password" in done.err


# --- row 18: the host key changed


@pytest.mark.core
def test_row_18_a_changed_host_key_is_refused_before_anything_is_sent(pi: Pi, box: Pod) -> None:
    pi.ok("list")
    knows_a_model(pi, box.ssh)
    before, remembered, said = fingerprint(box), (pi.config / "known_hosts").read_bytes(), len(box.log.read_text())
    new_host_key(box)
    for done in [running.ends() for running in [pi.spawn(*words) for words in VERBS]]:
        assert done.code == 4, done
        assert "pod 'box': " in done.err and before in done.err and fingerprint(box) in done.err
        assert "either the provider put a new pod at this address" in done.err and "someone is in between" in done.err
        assert "if it is a new pod: pi pods setup box --new-host-key" in done.err
    assert (pi.config / "known_hosts").read_bytes() == remembered
    assert "publickey" not in box.log.read_text()[said:]
    assert not (box.home / "received").exists()


def test_row_18_the_key_of_the_setup_counts_where_known_hosts_is_lost(pi: Pi, box: Pod) -> None:
    before = f"ssh-ed25519 {fingerprint(box)}"
    pi.knows(box, host_key=before)
    for _ in range(2):
        done = pi("list")
        assert (done.code, done.err) == (0, ""), "a key that is on record is not seen for the first time"
    (pi.config / "known_hosts").unlink()
    new_host_key(box)
    done = pi("list")
    assert (done.code, done.out) == (4, "")
    assert f"ssh-ed25519 {fingerprint(box)}, on record {before}" in done.err
    assert "if it is a new pod: pi pods setup box --new-host-key" in done.err
    assert (pi.config / "known_hosts").read_bytes() == b""


@pytest.mark.parametrize("way", ["pi", "fab"])
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_row_18_the_key_of_the_setup_is_asked_for_where_the_pod_has_several(
    pi: Pi, new_pod: NewPod, tmp_path: Path, kind: str, way: str
) -> None:
    """A setup sees the one that known_hosts has; once that is lost, the host's own first choice is another."""
    key = tmp_path / kind
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)
    box = new_pod(options=(f"HostKey {key}",))
    name = (tmp_path / f"{kind}.pub").read_text().split()[0]
    pinned = subprocess.check_output(["ssh-keygen", "-lf", f"{key}.pub"], text=True).split()[1]
    pi.knows(box, host_key=f"{name} {pinned}")
    done = pi("list") if way == "pi" else fab(pi, box, "pi.list")
    assert (done.code, done.out, done.err) == (0, EMPTY, "")
    assert (pi.config / "known_hosts").read_text().split()[1] == name


TASK_OF_ONES_OWN = """
from invoke import task

@task
def mine(c):
    c.run("true")
    pi.ns["list"](c)

ns.add_task(mine)
"""


@pytest.mark.long
@pytest.mark.parametrize("record", ["known_hosts", "pods.json", "the user's known_hosts"])
def test_row_18_a_changed_key_is_refused_on_a_connection_that_a_fabfile_has_opened(
    pi: Pi, box: Pod, record: str
) -> None:
    """Fabric's own default takes any key, and keeps it in mind as that of the host."""
    key, before = (box.folder / "host_key.pub").read_text().split()[:2], fingerprint(box)
    if record == "known_hosts":
        pi.ok("list")
    elif record == "pods.json":
        pi.knows(box, host_key=f"ssh-ed25519 {before}")
    else:
        (pi.home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{box.port} {' '.join(key)}\n")
    done = fab(pi, box, "mine", more=TASK_OF_ONES_OWN)
    assert (done.code, done.out, done.err) == (0, EMPTY, "")
    new_host_key(box)
    if record == "pods.json":
        (pi.config / "known_hosts").unlink()
    done = fab(pi, box, "mine", more=TASK_OF_ONES_OWN)
    assert (done.code, done.out) == (4, "")
    assert before in done.err and fingerprint(box) in done.err


@pytest.mark.long
def test_row_18_the_key_of_a_connection_that_a_fabfile_has_opened_is_remembered_at_first_sight(
    pi: Pi, box: Pod
) -> None:
    done = fab(pi, box, "mine", more=TASK_OF_ONES_OWN)
    assert (done.code, done.out) == (0, EMPTY)
    assert done.err == f"trusting new host key {fingerprint(box)} for box\n"
    done = fab(pi, box, "mine", more=TASK_OF_ONES_OWN)
    assert (done.code, done.out, done.err) == (0, EMPTY, "")


def test_row_18_a_key_of_another_type_is_refused(pi: Pi, box: Pod) -> None:
    pi.ok("list")
    before = fingerprint(box)
    for path in (box.folder / "host_key", box.folder / "host_key.pub"):
        path.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", box.folder / "host_key"], check=True)
    box.up()
    done = pi("list")
    assert (done.code, done.out) == (4, "")
    assert fingerprint(box) in done.err and before in done.err


def test_row_18_a_record_of_the_users_own_is_theirs_to_take_back(pi: Pi, box: Pod) -> None:
    users = pi.home / ".ssh" / "known_hosts"
    users.write_text(f"[127.0.0.1]:{box.port} {' '.join((box.folder / 'host_key.pub').read_text().split()[:2])}\n")
    assert reach(pi, box.ssh).out == EMPTY
    new_host_key(box)
    done = pi("pods", "setup", "box", "--new-host-key")
    assert done.code == 4
    command = f"ssh-keygen -R '[127.0.0.1]:{box.port}' -f {users}"
    assert f"if it is a new machine: {command}" in done.err and "--new-host-key" not in done.err
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert reach(pi, box.ssh).out == EMPTY


def test_row_18_a_changed_key_of_a_jump_host_is_not_the_pods(pi: Pi, box: Pod, new_pod: NewPod) -> None:
    jump = new_pod("jump", bare=True)
    ssh = f"ssh -J {login()}@127.0.0.1:{jump.port} -p {box.port} -i {box.key} {login()}@127.0.0.1"
    pi.ssh_config(f"Host *\n  IdentityFile {jump.key}\n")
    assert reach(pi, ssh).out == EMPTY
    new_host_key(jump)
    done = reach(pi, ssh)
    assert done.code == 4
    assert f"[127.0.0.1]:{jump.port} shows another host key" in done.err
    assert f"ssh-keygen -R '[127.0.0.1]:{jump.port}' -f {pi.config / 'known_hosts'}" in done.err
    assert "--new-host-key" not in done.err


def test_row_18_a_host_that_is_not_known_is_refused_where_the_user_wants_it_so(pi: Pi, box: Pod) -> None:
    done = reach(pi, box.ssh.replace("ssh ", "ssh -o StrictHostKeyChecking=yes ", 1))
    assert (done.code, done.out) == (4, "")
    assert f"the host key of [127.0.0.1]:{box.port} is not known: {fingerprint(box)}" in done.err
    assert not (pi.config / "known_hosts").exists() and logins(box) == 0


# --- row 19: a known_hosts with anything in it


def test_row_19_a_file_with_anything_in_it_works_and_stays_as_it_is(pi: Pi, box: Pod) -> None:
    users, key = pi.home / ".ssh" / "known_hosts", (box.folder / "host_key.pub").read_text().split()[1]
    users.write_bytes(
        b"# mine\n\n@cert-authority *.example.com ssh-ed25519 " + key.encode() + b"\n"
        b"\xff\xfe broken\nhost ssh-ed25519 notbase64!\nhost sk-ssh-ed25519@openssh.com AAAA\n"
        b"|1|bad hash ssh-rsa\n@revoked\nlast ssh-ed25519 " + key.encode()
    )  # fmt: skip
    before = users.read_bytes()
    first, second = reach(pi, box.ssh), reach(pi, box.ssh)
    assert (first.code, second.code) == (0, 0)
    assert f"trusting new host key {fingerprint(box)} for box" in first.err
    assert second.err == ""
    assert users.read_bytes() == before


@pytest.mark.parametrize("words", [["list"], ["pods", "setup", "box", "--new-host-key"]], ids=" ".join)
@pytest.mark.parametrize("why", ["Is a directory", "Permission denied"])
def test_row_19_a_file_that_cannot_be_written_is_named_and_the_pod_not_blamed(
    pi: Pi, box: Pod, words: list[str], why: str
) -> None:
    own = pi.config / "known_hosts"
    if why == "Is a directory":
        own.mkdir()
    else:
        own.touch(mode=0o000)
    done = run(pi, *AS_ANYONE, program("pi"), *words)
    own.chmod(0o700)
    assert done.code == 2, done
    assert f"pi: cannot write the host keys in {own}: " in done.err
    assert "reach" not in done.err and "gone" not in done.err
    assert not (box.home / "received").exists()


def test_row_19_a_file_on_a_full_disk_is_named_and_the_pod_not_blamed(pi: Pi, pod: Pod) -> None:
    with small_disk(pi.config, "size=16k,mode=700"):
        pi.knows(pod)
        with contextlib.suppress(OSError):
            (pi.config / "ballast").write_bytes(bytes(1 << 20))
        done = pi("list")
        assert done.code == 2
        assert re.search(f"pi: cannot write .*{re.escape(str(pi.config))}.*: ", done.err)
        (pi.config / "ballast").unlink()
        assert pi.ok("list") == EMPTY


@pytest.mark.parametrize("seen", ["never seen", "seen before"])
def test_row_19_a_revoked_key_is_refused(pi: Pi, box: Pod, seen: str) -> None:
    if seen == "seen before":
        pi.ok("list", PI_SSH_PERSIST="0")
    was = logins(box)
    key = (box.folder / "host_key.pub").read_text().split()[:2]
    (pi.home / ".ssh" / "known_hosts").write_text(f"@revoked * {' '.join(key)}")
    for words in (["list"], ["pods", "setup", "box", "--new-host-key"]):
        done = pi(*words, PI_SSH_PERSIST="0")
        assert done.code == 4, done
        assert f"shows a host key that your known_hosts marks as revoked: {fingerprint(box)}" in done.err
        assert "--new-host-key" not in done.err
    assert logins(box) == was


# --- row 41: odd shells


@pytest.mark.core
def test_row_41_a_noisy_pod_is_understood(pi: Pi, new_pod: NewPod, tmp_path: Path) -> None:
    """A banner, a greeting on both outputs, a false answer, and a `.bashrc` that fails half way."""
    banner = tmp_path / "banner"
    banner.write_text("WELCOME TO THE CLOUD\n" * 50)
    pod = new_pod(options=(f"Banner {banner}", "PrintMotd yes"))
    noise = 'echo hello; echo \'{"event": "done"}\'; printf "no newline" >&2\nnot-a-command\nif [ x; fi )\nfalse\n'
    (pod.home / ".bashrc").write_text(noise)
    (pod.home / ".bash_profile").write_text("exit 7\n")
    pi.knows(pod)
    pi.ok("start", pod.model(), "--name", "qwen")
    assert "running" in pi.ok("list")
    assert "WELCOME" not in pi.ok("logs", "qwen", "--no-follow")
    pi.ok("stop")


@pytest.mark.parametrize(
    ("bashrc", "told"),
    [
        (
            "echo this account is not available; exit 1\n",
            "ended with status 1; it wrote: this account is not available",
        ),
        ("exit 3\n", "ended with status 3"),
        ("set -e\nfalse\n", "ended with status 1"),
    ],
    ids=["with a word", "without", "by set -e"],
)
def test_row_41_a_shell_that_ends_before_the_call_is_quoted_with_the_way_on(
    pi: Pi, box: Pod, bashrc: str, told: str
) -> None:
    if Path(pwd.getpwuid(os.getuid()).pw_shell).name != "bash":
        skip("shell")
    (box.home / ".bashrc").write_text(bashrc)
    before = pi.state_file.read_bytes()
    assert f"{told}\n" in unreachable(pi, pi("stop"), before)
    assert "look for an `exit` or another shell in the account's start-up files" in unreachable(pi, pi("list"), before)


@pytest.mark.parametrize("path", ["/usr/bin", "/nonexistent", ""], ids=["short", "of nothing", "empty"])
def test_row_41_a_path_that_is_short_or_of_nothing_is_no_obstacle(pi: Pi, new_pod: NewPod, path: str) -> None:
    pod = new_pod(environment={"PATH": path})
    pi.knows(pod)
    pi.ok("start", pod.model(), "--name", "qwen")
    assert "running" in pi.ok("list")
    pi.ok("stop")


UNSHARE = "unshare -m" if IS_ROOT else "unshare -r -m"
HIDDEN = (
    UNSHARE + ' sh -c "mount --bind /dev/null $(readlink -f /bin/bash); exec /bin/sh -c \\"\\$SSH_ORIGINAL_COMMAND\\""'
)


def test_row_41_a_pod_without_bash_is_reported(pi: Pi, new_pod: NewPod) -> None:
    if subprocess.run([*UNSHARE.split(), "true"], capture_output=True).returncode:
        skip("namespace")
    pi.knows(new_pod(options=(f"ForceCommand {HIDDEN}",)))
    done = pi("list")
    assert (done.code, done.out) == (1, "")
    assert "the pod has no bash\n  install bash there" in done.err


def test_row_41_a_pod_without_python_is_reported_with_the_setup_command(
    pi: Pi, new_pod: NewPod, tmp_path: Path
) -> None:
    """A PATH with a shell and nothing else; a setup cannot install what it needs there either, and says why."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bash").symlink_to("/bin/bash")
    pod = new_pod(bare=True, environment={"PATH": str(tmp_path / "bin")})
    pi.knows(pod)
    done = pi("list")
    assert done.code == 1
    assert "the pod has no python3, or one without its standard library\n" in done.err and "pi pods setup" in done.err
    done = pi("pods", "setup", "box")
    assert done.code == 1
    assert "the pod has no python3, and installing it failed: " in done.err
    assert "as root on the pod: apt-get install -y python3; then run the setup again" in done.err


# --- row 42: gateways


POINTER = 'use the pod\'s own address ("SSH over exposed TCP")'


@pytest.mark.parametrize("words", [["list"], ["stop"], ["start", "a/b", "--name", "q"]], ids=" ".join)
def test_row_42_a_gateway_that_runs_no_commands_is_quoted_and_the_pods_own_address_asked_for(
    pi: Pi, new_pod: NewPod, words: list[str]
) -> None:
    refusal = "Error: Your SSH client does not support PTY"
    pi.knows(new_pod(bare=True, options=(f"ForceCommand echo {refusal}; exit 1",)))
    told = unreachable(pi, pi(*words), pi.state_file.read_bytes())
    assert f"it wrote: {refusal}\n" in told
    assert POINTER in told


def test_row_42_a_gateway_that_opens_no_channel_is_reported(pi: Pi, new_pod: NewPod) -> None:
    pi.knows(new_pod(bare=True, options=("MaxSessions 0",)))
    told = unreachable(pi, pi("list"), pi.state_file.read_bytes())
    assert "opened no session" in told
    assert POINTER in told


# --- row 43: what providers show besides


def test_row_43_the_forwards_of_a_providers_command_are_accepted_and_noted(pi: Pi, quick: Pod) -> None:
    ssh = f"{quick.ssh} -L 8080:localhost:8080 -N"
    done = pi("pods", "setup", "box", ssh)
    assert done.code == 0, done.err
    assert "-L 8080:localhost:8080 has no effect: pi opens its own tunnels" in done.err
    assert "-N has no effect" in done.err
    assert pi.state()["pods"]["box"]["ssh"] == ssh
    assert "no models" in pi.ok("list")


# --- pi's own time-out


def test_row_15_a_server_that_says_nothing_is_given_up_after_the_time_of_connecting(pi: Pi) -> None:
    with listener(silence) as port:
        before = knows_a_model(pi, f"ssh -p {port} root@127.0.0.1")
        told = unreachable(pi, pi("list"), before)
    assert f"within {CONNECT_TIMEOUT_S} s" in told
    assert CONNECT_TIMEOUT_S == 10
