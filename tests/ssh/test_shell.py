"""`pi ssh` and `pi shell`, on one pod and on several."""

from __future__ import annotations

import os
import pty
import subprocess

from tests.rig.command import Pi, program
from tests.rig.pod import Pod
from tests.rig.skips import skip_if
from tests.ssh.conftest import NewPod


def test_a_command_gets_words_input_and_passes_its_exit_code(pi: Pi, box: Pod) -> None:
    done = pi("ssh", "--", "sh", "-c", 'echo "$1"; exit 7', "-", "a  b;$(id) 'ü'")
    assert (done.code, done.out) == (7, "a  b;$(id) 'ü'\n")
    assert pi.ok("ssh", "-p", "box", "--", "echo one two | wc -w").strip() == "2"
    piped = subprocess.run(
        [program("pi"), "ssh", "--", "cat"], env=pi.environment, input=b"hello\x00\xff", capture_output=True
    )
    assert piped.stdout == b"hello\x00\xff"
    assert pi("ssh").id == "operand-missing"
    assert pi("ssh", "--", " ").id == "command-empty"
    assert pi("ssh", "-p", "nowhere", "--", "id").id == "unknown-pod"


def test_a_command_runs_on_several_pods_and_one_may_fail(pi: Pi, new_pod: NewPod) -> None:
    one, two = new_pod("one"), new_pod("two")
    pi.knows(one, two)
    (two.home / "here").touch()
    done = pi("ssh", "--all-pods", "--", "cd; ls here")
    assert (done.code, done.id, done.out) == (1, "pods-failed", "two: here\n")
    assert "one: ls: cannot access" in done.err
    assert "pi: one: the command exited with status 2" in done.err
    assert done.err.endswith("pi: 1 of 2 pods failed: one\n")


@skip_if(os.geteuid(), "terminal")
def test_a_shell_has_a_terminal_and_passes_its_exit_code(pi: Pi, box: Pod) -> None:
    pid, fd = pty.fork()
    if not pid:
        os.execve(program("pi"), ["pi", "shell", "box"], {**pi.environment, "TERM": "xterm"})
    os.write(fd, b"test -t 0 && echo on-$((1 + 1)) && echo $HOME && exit 3\n")
    seen = b""
    while True:
        try:
            seen += os.read(fd, 65536)
        except OSError:  # the end of a terminal, on Linux
            break
    assert b"on-2" in seen and str(box.home).encode() in seen
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
