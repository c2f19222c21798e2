"""Start-up files of the pod's account that misbehave, and forced commands: pi reports each as what it is.

pi sends nothing secret and no program before /bin/sh has answered, so another shell gets neither.
"""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

import pytest

from tests.rig.command import Done, Pi, login
from tests.rig.patience import patient
from tests.rig.pod import Pod
from tests.rig.skips import skip
from tests.ssh.conftest import NewPod

pytestmark = pytest.mark.pace(0.2)


@pytest.fixture(autouse=True)
def bash_is_the_login_shell() -> None:
    if Path(pwd.getpwuid(os.getuid()).pw_shell).name != "bash":
        skip("shell")


def with_bashrc(pi: Pi, box: Pod, bashrc: str) -> Done:
    """List the models of a pod whose account has this ~/.bashrc."""
    (box.home / ".bashrc").write_text(bashrc)
    return pi("list")


def wants(done: Done, error_id: str, *texts: str) -> None:
    assert (done.code, done.out, done.id) == (3, "", error_id), done
    for text in texts:
        assert text in done.err


ECHO = "#!/bin/sh\nwhile IFS= read -r line; do printf '%s\\n' \"$line\" >>~/typed; {}; done\n"


@pytest.mark.parametrize(
    ("bashrc", "shell"),
    [("exec zsh\n", "zsh"), ("zsh\n", "zsh"), ("bash\n", "bash"), ("exec /bin/sh\n", "sh"), ("fish\n", "fish")],
    ids=["exec zsh", "zsh", "bash", "a shell by its path", "fish"],
)
def test_another_shell_is_named(pi: Pi, box: Pod, bashrc: str, shell: str) -> None:
    (box.bin / "zsh").symlink_to("/bin/sh")
    box.program("fish", ECHO.format("echo 'fish: $0 is not the current process' >&2"))
    done = with_bashrc(pi, box, bashrc)
    wants(done, "start-up-other-shell", f"starts another shell ({shell})", f"look for {shell} in ", "~/.bashrc")


def test_another_shell_gets_no_program_and_no_secret(pi: Pi, box: Pod) -> None:
    box.program("zsh", ECHO.format("echo pi-asks-zsh"))
    (box.home / ".bashrc").write_text("exec zsh\n")
    assert pi("pods", "setup", "box", HF_TOKEN="hf_0123456789CANARY").id == "start-up-other-shell"
    assert (box.home / "typed").read_text() == "echo pi-asks-$0\n"


@pytest.mark.parametrize(
    "bashrc",
    ["read -p 'Update now? ' -r answer </dev/stdin\n", "echo 'Update now? '; select x in yes no; do break; done\n"],
    ids=["read", "menu"],
)
def test_a_prompt_is_reported_with_its_text(pi: Pi, box: Pod, bashrc: str) -> None:
    wants(with_bashrc(pi, box, bashrc), "start-up-files-ask", "waits for input", "~/.bashrc")


@pytest.mark.long
def test_slow_start_up_files_are_reported_with_their_last_words(pi: Pi, box: Pod) -> None:
    """40 s at pace 0.2 are 8 s."""
    done = with_bashrc(pi, box, "echo loading conda; sleep 8\n")
    wants(done, "start-up-files-slow", "took longer than 30 s; it last wrote: loading conda", "~/.bashrc")


@pytest.mark.long
def test_start_up_files_that_keep_writing_have_the_same_limit(pi: Pi, box: Pod) -> None:
    began = time.monotonic()
    wants(with_bashrc(pi, box, "while sleep 0.02; do echo -n .; done\n"), "start-up-files-slow")
    assert time.monotonic() - began < patient(20)


def test_start_up_files_that_take_twenty_seconds_are_waited_for(pi: Pi, box: Pod) -> None:
    """20 s at pace 0.2 are 4 s."""
    assert with_bashrc(pi, box, "sleep 4\n").code == 0


def test_a_forced_command_that_names_another_user_leads_to_the_command_with_it(pi: Pi, new_pod: NewPod) -> None:
    """As the images of AWS, GCP and Lambda answer root."""
    sentence = 'Please login as the user \\"ubuntu\\" rather than the user \\"root\\".'
    pod = new_pod(options=(f'ForceCommand echo "{sentence}";echo;sleep 2;exit 142',))
    pi.knows(pod)
    command = f"ssh -p {pod.port} -l ubuntu -i {pod.key} 127.0.0.1"
    wants(pi("list"), "other-user", 'Please login as the user "ubuntu"', f"pi pods setup NAME '{command}'")


def test_no_agent_reaches_the_pod(pi: Pi, box: Pod, agent: str) -> None:
    """-A and ForwardAgent have no effect, and pi says so."""
    (box.home / ".bashrc").write_text("echo agent=$SSH_AUTH_SOCK >>~/agents\n")
    pi.ssh_config("Host *\n  ForwardAgent yes\n")
    pi.write({"pods": {"box": {"ssh": box.ssh.replace("ssh ", "ssh -A ")}}, "active": "box"})
    done = pi("pods", "setup", "box", SSH_AUTH_SOCK=agent)
    assert "-A has no effect: pi forwards no agent" in done.err
    pi.ok("list", SSH_AUTH_SOCK=agent)
    assert set((box.home / "agents").read_text().splitlines()) == {"agent="}


def test_a_missing_proxy_program_is_named(pi: Pi, pod: Pod) -> None:
    pi.ssh_config(
        f"Host box\n  HostName 127.0.0.1\n  User {login()}\n"
        "  ProxyCommand cloudflared-not-installed access ssh --hostname %h\n"
    )
    pi.write({"pods": {"box": {"ssh": "ssh box"}}, "active": "box"})
    wants(pi("list"), "proxy-program-missing", "cloudflared-not-installed", "install it")


def test_what_a_failing_proxy_program_wrote_is_shown(pi: Pi) -> None:
    pi.ssh_config(
        f"Host box\n  HostName 127.0.0.1\n  User {login()}\n  ProxyCommand sh -c 'echo no tunnel today >&2; exit 3'\n"
    )
    pi.write({"pods": {"box": {"ssh": "ssh box"}}, "active": "box"})
    wants(pi("list"), "proxy-failed", "the ProxyCommand for 127.0.0.1:22 failed: no tunnel today")


def test_a_python_of_the_pod_that_hangs_is_named(pi: Pi, box: Pod) -> None:
    """25 s at pace 0.2 are 5 s."""
    python = box.home / "venv" / "bin" / "python"
    (box.home / "venv").unlink()
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexec cat >/dev/null\n")
    python.chmod(0o755)
    done = pi("list")
    assert (done.code, done.out, done.id) == (1, "", "python-silent"), done
    assert f"{python} on the pod did not run pi's program within 25 s" in done.err
    assert "if ~/venv hangs, move it away and run the setup again" in done.err
