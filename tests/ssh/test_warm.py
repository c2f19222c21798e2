"""Warm connections: `ssh` stays for the next command, is noticed when it is dead, and never outlives its time."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pi.ssh import openssh, session, target
from tests.rig.command import SYSTEM_PATH, Pi
from tests.rig.patience import patient
from tests.rig.pod import Pod, is_alive, kill, new_host_key, read, until
from tests.ssh.conftest import NewPod
from tests.ssh.test_connections import EMPTY, logins

DEAD = "the warm connection to the pod was dead; pi opened a new one\n"


@contextmanager
def with_short_paths(pi: Pi, persist_s: int) -> Iterator[Pi]:
    """Give pi a config dir whose path is short enough for a socket, as most users have."""
    folder = Path(tempfile.mkdtemp(prefix="pi-", dir="/tmp"))
    pi.config = folder / "pi"
    pi.environment |= {
        "PI_CONFIG_DIR": str(pi.config),
        "XDG_RUNTIME_DIR": str(folder),
        "PI_SSH_PERSIST": str(persist_s),
    }
    yield pi
    for pid in masters(pi):
        kill(pid)
    shutil.rmtree(folder)


@pytest.fixture
def warm(pi: Pi) -> Iterator[Pi]:
    """A pi with warm connections."""
    with with_short_paths(pi, 30) as warm:
        yield warm


@pytest.fixture
def box(warm: Pi, pod: Pod) -> Pod:
    warm.knows(pod)
    return pod


def masters(pi: Pi) -> list[int]:
    """Return the processes that hold a connection: `ssh: SOCKET [mux]`."""
    folder = pi.environment["XDG_RUNTIME_DIR"].encode()
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    found = {pid: read(pid, "cmdline") for pid in pids}
    return sorted(pid for pid, words in found.items() if folder in words and b"[mux]" in words and is_alive(pid))


def sockets(pi: Pi) -> list[Path]:
    return list((pi.config / "ssh").iterdir())


def freeze(pod: Pod) -> list[int]:
    """Stop the pod's ends of all connections, as if the laptop had moved to another network."""
    pids = pod.sessions()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


@pytest.mark.core
def test_the_second_command_logs_in_no_more(warm: Pi, box: Pod) -> None:
    assert [warm.ok("list") for _ in range(3)] == [EMPTY] * 3
    assert logins(box) == 1
    assert len(masters(warm)) == 1


def test_the_socket_is_private(warm: Pi, box: Pod) -> None:
    warm.ok("list")
    [path] = sockets(warm)
    assert path.is_socket()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.stat().st_mode & 0o077


def test_a_folder_that_others_may_write_gets_no_socket(warm: Pi, box: Pod) -> None:
    (warm.config / "ssh").mkdir()
    (warm.config / "ssh").chmod(0o777)
    warm.ok("list")
    assert sockets(warm) == []
    assert len(masters(warm)) == 1


def test_a_long_path_moves_the_socket_to_the_runtime_folder(warm: Pi, pod: Pod) -> None:
    warm.config = warm.config / ("long" * 20)
    warm.environment["PI_CONFIG_DIR"] = str(warm.config)
    warm.config.mkdir(parents=True, mode=0o700)
    warm.knows(pod)
    assert [warm.ok("list") for _ in range(2)] == [EMPTY] * 2
    folder = Path(warm.environment["XDG_RUNTIME_DIR"], f"pi-{os.getuid()}")
    assert len(list(folder.iterdir())) == 1 and folder.stat().st_mode & 0o777 == 0o700
    assert logins(pod) == 1


def test_other_words_of_the_same_pod_share_nothing(warm: Pi, box: Pod) -> None:
    warm.ok("list")
    warm.ssh_config("Host *\n  Compression yes\n")
    warm.ok("list")
    assert logins(box) == 2


def test_no_connection_outlives_its_time(warm: Pi, box: Pod) -> None:
    warm.ok("list", PI_SSH_PERSIST="4")
    assert masters(warm)
    assert until(lambda: not masters(warm), patience_s=8)
    assert sockets(warm) == []
    assert box.quiet() == {}


def test_zero_leaves_none_after_the_command(warm: Pi, box: Pod) -> None:
    warm.ok("list", PI_SSH_PERSIST="0")
    assert until(lambda: not masters(warm), patience_s=1)
    assert sockets(warm) == []


def test_zero_leaves_none_after_ctrl_c(warm: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=60)
    running = warm.spawn("start", box.model(), "--name", "qwen", PI_SSH_PERSIST="0")
    running.reads("waiting until it is ready")
    running.interrupt()
    assert running.ends().code == 130
    assert until(lambda: not masters(warm), patience_s=2)


@pytest.mark.long
def test_zero_leaves_none_after_a_kill(warm: Pi, box: Pod) -> None:
    """Up to 5 s until the next heartbeat finds no reader, and 10 s that ssh waits for others."""
    box.fault("vllm", load_s=60)
    running = warm.spawn("start", box.model(), "--name", "qwen", PI_SSH_PERSIST="0")
    running.reads("waiting until it is ready")
    running.interrupt(signal.SIGKILL)
    running.ends()
    assert until(lambda: not masters(warm), patience_s=18)
    warm.ok("stop")


def test_config_toml_switches_warm_connections_off(warm: Pi, box: Pod) -> None:
    (warm.config / "config.toml").write_text("ssh_persist = 0\n")
    del warm.environment["PI_SSH_PERSIST"]
    warm.ok("list")
    assert until(lambda: not masters(warm), patience_s=1)
    assert sockets(warm) == []


def test_a_number_of_seconds_that_is_none_is_refused(warm: Pi, box: Pod) -> None:
    done = warm("list", PI_SSH_PERSIST="soon")
    assert (done.code, done.out, done.id) == (2, "", "persist-invalid")


def test_a_dead_connection_is_noticed_and_replaced(warm: Pi, box: Pod) -> None:
    warm.ok("list")
    [old] = masters(warm)
    frozen = freeze(box)
    began = time.monotonic()
    done = warm("list")
    assert (done.code, done.out, done.err) == (0, EMPTY, DEAD)
    assert time.monotonic() - began < patient(session.WARM_PATIENCE_S + 5)
    assert logins(box) == 2
    assert is_alive(old), "others may use it"
    assert warm("list").err == ""
    assert logins(box) == 2
    for pid in frozen:
        os.kill(pid, signal.SIGKILL)


def test_a_dead_connection_is_left_to_those_who_use_it(warm: Pi, box: Pod) -> None:
    """Here it comes back to life."""
    warm.ok("start", box.model(), "--name", "qwen")
    following = warm.spawn("logs", "qwen")
    following.reads("Application startup complete.")
    frozen = freeze(box)
    assert warm("list").err == DEAD
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    with box.log_of("qwen").open("a") as log:
        log.write("after the pause\n")
    following.reads("after the pause")
    following.interrupt()
    assert following.ends().code == 0
    warm.ok("stop")


def test_a_slow_start_up_file_is_not_taken_for_a_dead_connection(warm: Pi, box: Pod) -> None:
    warm.ok("list")
    (box.home / ".bashrc").write_text(f"sleep {session.WARM_PATIENCE_S + 1}\n")
    done = warm("list")
    assert (done.code, done.err) == (0, "")
    assert logins(box) == 1


def test_the_socket_of_a_killed_process_is_no_obstacle(warm: Pi, box: Pod) -> None:
    warm.ok("list")
    [old] = masters(warm)
    kill(old)
    done = warm("list")
    assert (done.code, done.out, done.err) == (0, EMPTY, "")
    assert logins(box) == 2


def test_the_eleventh_session_opens_its_own_connection(
    warm: Pi, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sshd's MaxSessions is 10."""
    pod = new_pod("many", options=("MaxSessions 10",))
    for name, value in {**warm.environment, "PATH": f"{warm.bin}:{SYSTEM_PATH}"}.items():
        monkeypatch.setenv(name, value)
    ways = [openssh.OpenSsh(_target(pod), warm.config) for _ in range(11)]
    try:
        for way in ways:
            way.start()
            way.ready()
        assert logins(pod) == 2
    finally:
        for way in ways:
            way.close()


def _target(pod: Pod) -> target.SshTarget:
    parsed = target.parse(pod.ssh)
    assert isinstance(parsed, target.SshTarget)
    return parsed


def another_machine(pod: Pod) -> None:
    """Put another machine at the pod's address; connections to the old one stay."""
    server = pod._server
    assert server is not None
    server.kill()
    server.wait()
    new_host_key(pod)


def test_a_changed_host_key_is_refused_behind_a_warm_connection(warm: Pi, box: Pod) -> None:
    """The open connection is to the old machine, which proved its key; each new connection is refused."""
    warm.ok("list")
    [old] = masters(warm)
    another_machine(box)
    assert warm("list").code == 0
    assert warm("pods", "setup", "box").code == 4
    kill(old)
    done = warm("list")
    assert (done.code, done.out) == (4, "")
    assert logins(box) == 1


def test_a_changed_host_key_is_refused_instead_of_a_dead_connection(warm: Pi, box: Pod) -> None:
    warm.ok("list")
    frozen = freeze(box)
    another_machine(box)
    done = warm("list")
    assert (done.code, done.out) == (4, "")
    for pid in frozen:
        os.kill(pid, signal.SIGKILL)
