"""Ways to a pod: aliases, agents, jumps, other people's shells, host keys; this machine itself; Fabric and Invoke."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.rig import machine
from tests.rig.command import KEY, Done, Pi, ended, login, program
from tests.rig.pod import NOWHERE, Pod, new_host_key
from tests.ssh.conftest import FIRST_STEPS, NewPod

EMPTY = "no models on box; start one: pi start MODEL --name NAME\n"


def reach(pi: Pi, ssh: str, **environment: Any) -> Done:
    """`pi list` on a pod that is reached like this."""
    pi.write({"pods": {"box": {"ssh": ssh}}, "active": "box"})
    return pi("list", **environment)


def alias(pod: Pod, name: str, *more: str) -> str:
    """An entry of ~/.ssh/config that leads to a pod."""
    lines = [f"HostName 127.0.0.1\n  Port {pod.port}\n  User {login()}\n  IdentityFile {pod.key}", *more]
    return f"Host {name}\n  " + "\n  ".join(lines) + "\n"


def logins(pod: Pod) -> int:
    return pod.log.read_text().count("Accepted publickey")


def fingerprint(pod: Pod) -> str:
    told = subprocess.check_output(["ssh-keygen", "-lf", pod.folder / "host_key.pub"], text=True)
    return told.split()[1]


# --- what the ssh string may be


@pytest.mark.core
def test_an_alias_of_the_ssh_config_leads_to_a_pod(pi: Pi, pod: Pod) -> None:
    pi.ssh_config(alias(pod, "gpu-box"))
    assert reach(pi, "ssh gpu-box").out == EMPTY
    assert reach(pi, "gpu-box@gpu-box").code == 3


def test_a_machine_without_ssh_is_told_what_to_install(pi: Pi, pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "no-ssh").mkdir()
    done = reach(pi, pod.ssh, PATH=str(tmp_path / "no-ssh"))
    assert (done.code, done.out, done.id) == (2, "", "no-ssh")
    assert "apt-get install openssh-client" in done.err


def test_an_included_ssh_config_counts(pi: Pi, pod: Pod) -> None:
    (pi.home / "more").write_text(alias(pod, "gpu-box"))
    pi.ssh_config(f"Include {pi.home}/more\n")
    assert reach(pi, "ssh gpu-box").out == EMPTY


@pytest.mark.core
def test_a_pod_behind_a_jump_host_is_reached_through_it(pi: Pi, pod: Pod, new_pod: NewPod) -> None:
    jump = new_pod("jump", bare=True)
    pi.ssh_config(alias(jump, "jump") + alias(pod, "inside", "ProxyJump jump"))
    assert reach(pi, "ssh inside").out == EMPTY
    assert (logins(jump), logins(pod)) == (1, 1)
    assert reach(pi, f"ssh -J jump -p {pod.port} -i {pod.key} {login()}@127.0.0.1").out == EMPTY
    assert (logins(jump), logins(pod)) == (2, 2)


@pytest.mark.parametrize("own_way", ["ProxyJump first", "ProxyCommand ssh -F {config} -W %h:%p first"])
def test_a_jump_host_is_reached_its_own_way(pi: Pi, pod: Pod, new_pod: NewPod, own_way: str) -> None:
    first, second = new_pod("first", bare=True), new_pod("second", bare=True)
    closed = new_pod("closed", bare=True, options=("AllowTcpForwarding no",))
    pi.environment["PI_SSH_PERSIST"] = "0"
    trusting = f"Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile {pi.home}/jumps\n"
    inner = alias(second, "second", own_way.format(config=f"{pi.home}/.ssh/config")) + alias(pod, "inside") + trusting
    pi.ssh_config(alias(first, "first") + inner)
    assert reach(pi, "ssh -J second inside").out == EMPTY
    assert (logins(first), logins(second), logins(pod)) == (1, 1, 1)
    pi.ssh_config(alias(closed, "first") + inner)
    assert reach(pi, "ssh -J second inside").code == 3
    assert (logins(closed), logins(second), logins(pod)) == (1, 1, 1)


def test_of_several_jumps_only_the_first_goes_its_own_way(pi: Pi, pod: Pod, new_pod: NewPod) -> None:
    """As with OpenSSH, which is asked too."""
    first, second = new_pod("first", bare=True), new_pod("second", bare=True)
    trusting = f"Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile {pi.home}/jumps\n"
    pi.ssh_config(
        alias(first, "first") + alias(second, "second", "ProxyJump nowhere") + alias(pod, "inside") + trusting
    )
    assert reach(pi, "ssh -J first,second inside").out == EMPTY
    assert (logins(first), logins(second), logins(pod)) == (1, 1, 1)
    assert run(pi, "ssh", "-J", "first,second", "inside", "true").code == 0
    assert (logins(first), logins(second), logins(pod)) == (2, 2, 2)


def test_a_jump_host_that_is_down_is_named(pi: Pi, pod: Pod, new_pod: NewPod) -> None:
    jump = new_pod("jump", bare=True)
    pi.ssh_config(alias(jump, "jump") + alias(pod, "inside", "ProxyJump jump"))
    jump.down()
    done = reach(pi, "ssh inside")
    assert done.code == 3
    assert f"127.0.0.1:{jump.port} refused the connection" in done.err


def test_a_pod_that_is_down_behind_a_jump_host_is_reported(pi: Pi, pod: Pod, new_pod: NewPod) -> None:
    jump = new_pod("jump", bare=True)
    command = f"ProxyCommand ssh -F {pi.home}/.ssh/config -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -W %h:%p jump"
    pi.ssh_config(alias(jump, "jump") + alias(pod, "inside", "ProxyJump jump") + alias(pod, "by-command", command))
    pod.down()
    done = reach(pi, "ssh inside")
    assert done.code == 3
    assert f"the jump host cannot connect to 127.0.0.1:{pod.port} (Connection refused)" in done.err
    done = reach(pi, "ssh by-command")
    assert (done.code, done.id) == (3, "jump-failed")


def test_jumps_in_a_circle_are_reported(pi: Pi) -> None:
    pi.ssh_config("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    done = reach(pi, "ssh a")
    assert (done.code, done.out, done.id) == (2, "", "jump-loop")


def test_a_proxy_command_is_run(pi: Pi, pod: Pod, new_pod: NewPod) -> None:
    jump = new_pod("jump", bare=True)
    command = f"ProxyCommand ssh -F {pi.home}/.ssh/config -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -W %h:%p jump"
    pi.ssh_config(alias(jump, "jump", f"UserKnownHostsFile {pi.home}/jumps") + alias(pod, "inside", command))
    assert reach(pi, "ssh inside").out == EMPTY
    assert logins(jump) == 1


def test_a_key_of_the_agent_opens_the_pod(pi: Pi, pod: Pod, agent: str) -> None:
    subprocess.run([machine.program("ssh-add"), "-q", pod.key], env={"SSH_AUTH_SOCK": agent}, check=True)
    assert reach(pi, f"ssh -p {pod.port} {login()}@127.0.0.1", SSH_AUTH_SOCK=agent).out == EMPTY


# --- what the pod's shell may be


def test_a_pod_with_sftp_works_as_well(pi: Pi, new_pod: NewPod) -> None:
    pod = new_pod(sftp=True)
    pi.knows(pod)
    pi.ok("start", pod.model(), "--name", "qwen")


# --- host keys


def test_a_new_host_key_is_remembered_in_pis_own_file(pi: Pi, box: Pod) -> None:
    users = pi.home / ".ssh" / "known_hosts"
    users.write_text("# mine\n")
    pi.ok("list")
    key = (box.folder / "host_key.pub").read_text().split()[:2]
    assert (pi.config / "known_hosts").read_text().split() == [f"[127.0.0.1]:{box.port}", *key]
    assert users.read_text() == "# mine\n"


def test_the_users_own_known_hosts_are_asked_first(pi: Pi, box: Pod) -> None:
    other = subprocess.check_output(["ssh-keygen", "-yf", box.key], text=True).split()[:2]
    (pi.home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{box.port} {' '.join(other)}\n")
    done = pi("list")
    assert (done.code, done.out) == (4, "")
    assert fingerprint(box) in done.err
    assert not (pi.config / "known_hosts").exists()


# --- this machine itself


@pytest.mark.core
def test_this_machine_is_a_pod_under_the_word_local(pi: Pi, new_pod: NewPod) -> None:
    pod = new_pod()
    pi.environment.update(HOME=str(pod.home), HF_ENDPOINT=NOWHERE, HF_TOKEN="hf_0123456789CANARY")
    pi.write({"pods": {"here": {"ssh": "local"}}, "active": "here"})
    pi.ok("start", pod.model(), "--name", "qwen")
    entry = pi.models("here")["qwen"]
    assert f"http://127.0.0.1:{entry['port']}/v1" in pi.ok("list")
    received = pod.received("qwen")
    assert received["env"]["VLLM_API_KEY"] == KEY
    assert not {"PI_API_KEY", "HF_TOKEN"} & received["env"].keys()
    assert "Application startup complete." in pi.ok("logs", "qwen", "--no-follow")
    assert pi.ok("stop") == "qwen is stopped\n"
    assert pod.quiet(0) == {}


def test_an_interrupted_start_on_this_machine_leaves_nothing(pi: Pi, new_pod: NewPod) -> None:
    pod = new_pod()
    pod.fault("vllm", load_s=60)
    pi.environment.update(HOME=str(pod.home))
    pi.write({"pods": {"here": {"ssh": "local"}}, "active": "here"})
    running = pi.spawn("start", pod.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    running.interrupt()
    assert running.ends().code == 130
    assert pod.quiet() == {} and pod.records() == []


# --- the same tasks elsewhere

FILE = "from invoke import Collection\nimport pi\nns = Collection(pi)\n"


def run(pi: Pi, *words: str | Path) -> Done:
    done = subprocess.run(
        words, env=pi.environment, cwd=pi.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    return ended(done.returncode, done.stdout.encode(), done.stderr.encode())


def fab(pi: Pi, pod: Pod, *words: str, more: str = "") -> Done:
    """`fab -H` to a pod with the tasks of pi and those of `more`, a text of Python."""
    (pi.home / "fabfile.py").write_text(FILE + more)
    return run(pi, program("fab"), "-H", f"{login()}@127.0.0.1:{pod.port}", "-i", str(pod.key), *words)


def timeless(text: str) -> str:
    """Return a list of models without how long each has run, and without the width of its columns."""
    return re.sub(r" +", " ", re.sub(r" \d+ (s|min)\b", " -", text))


@pytest.mark.core
def test_a_fabfile_that_imports_pi_lists_the_models_of_its_host(pi: Pi, new_pod: NewPod) -> None:
    """The pod is the host of `-H`, not the active one."""
    box, other = new_pod("box"), new_pod("other")
    pi.knows(other, box)
    pi.ok("start", box.model(), "--name", "qwen", "--pod", "box")
    done = fab(pi, box, "pi.list")
    assert (done.code, done.err) == (0, "")
    assert timeless(done.out) == timeless(pi.ok("list", "--pod", "box"))
    done = fab(pi, box, "pi.stop")
    assert (done.code, done.out) == (0, "qwen is stopped\n")


@pytest.mark.long
def test_under_fabric_a_plan_on_a_machine_contacts_no_host(pi: Pi, pod: Pod) -> None:
    words = ["--on", "2x RTX 4090", "--json"]
    done = fab(pi, pod, "pi.plan", "--model", "Qwen/Qwen3-8B", *words)
    assert (done.code, done.out) == (0, pi.ok("plan", "Qwen/Qwen3-8B", *words))
    done = fab(pi, pod, "pi.models", *words)
    assert (done.code, done.out) == (0, pi.ok("models", *words))
    assert logins(pod) == 0


def test_under_fabric_an_unknown_host_is_answered_with_the_setup_command(pi: Pi, pod: Pod) -> None:
    done = fab(pi, pod, "pi.list")
    assert done.code == 2
    assert f"{login()}@127.0.0.1:{pod.port} is not one of your pods" in done.err
    assert "pi pods setup NAME" in done.err


@pytest.mark.long
def test_under_fabric_a_changed_host_key_is_refused_too(pi: Pi, box: Pod) -> None:
    """Fabric's own default is to accept any key."""
    pi.ok("list")
    new_host_key(box)
    done = fab(pi, box, "pi.list")
    assert (done.code, done.out) == (4, "")
    assert "--new-host-key" in done.err


@pytest.mark.long
def test_the_tasks_run_under_invoke(pi: Pi, box: Pod) -> None:
    (pi.home / "tasks.py").write_text(FILE)
    listed = run(pi, program("inv"), "--list").out
    for name in ("pi.list", "pi.start", "pi.stop", "pi.logs", "pi.pods.setup", "pi.pods.active"):
        assert f"  {name} " in listed, name
    assert run(pi, program("inv"), "pi.list").out == EMPTY
    assert "box" in run(pi, program("inv"), "pi.pods").out
    words = ["--model", "Qwen/Qwen3-8B", "--on", "2x RTX 4090"]
    assert run(pi, program("inv"), "pi.plan", *words).out == pi.ok("plan", *words[1:])
    done = run(pi, program("inv"), "pi.plan", "--model", "Qwen/Qwen3-8B", "--on", "24GB", "--json")
    assert (done.code, list(json.loads(done.out))) == (2, ["refused"])
    done = run(pi, program("inv"), "pi.pods.active", "nowhere")
    assert done.code == 2
    assert "unknown pod 'nowhere'" in done.err


RAW = ["-tp", "4", "--x=y", "list", "x y", "--help"]


@pytest.mark.parametrize("under", ["inv", "fab"])
def test_raw_words_arrive_as_they_were_typed(pi: Pi, box: Pod, under: str) -> None:
    words = ["pi.start", "--model", box.model(), "--name", "q", "--vllm", *RAW]
    (pi.home / "tasks.py").write_text(FILE)
    done = fab(pi, box, *words) if under == "fab" else run(pi, program("inv"), *words)
    assert done.code == 0, done
    received = box.received("q")["argv"]
    place = received.index("-tp")
    assert received[place : place + len(RAW)] == RAW


@pytest.mark.long
def test_under_fabric_the_pod_that_is_named_counts_and_not_the_host(pi: Pi, new_pod: NewPod) -> None:
    """Both run a model of the same name."""
    here, there = new_pod("here"), new_pod("there")
    pi.knows(here, there)
    model = [pod.model() for pod in (here, there)]
    pi.ok("start", model[0], "--name", "qwen", "--pod", "here")
    pi.ok("start", model[1], "--name", "qwen", "--pod", "there")
    assert timeless(fab(pi, here, "pi.list", "--pod", "there").out) == timeless(pi.ok("list", "--pod", "there"))
    before = logins(here)
    done = fab(pi, here, "pi.prompt", "--name", "qwen", "--message", "hi", "--pod", "there")
    assert done.code == 0, done
    done = fab(pi, here, "pi.stop", "--pod", "there")
    assert (done.code, done.out) == (0, "qwen is stopped\n")
    assert logins(here) == before
    assert there.records() == [] and here.records() == ["qwen"]
    assert pi.models("here") and not pi.models("there")


@pytest.mark.long
def test_under_fabric_a_setup_is_of_the_machine_of_its_ssh_command_and_not_of_the_host(pi: Pi, new_pod: NewPod) -> None:
    here, there = (
        new_pod(name, environment={"PI_SETUP_ONLY": FIRST_STEPS}).bare_machine(Path("/bin/false"))
        for name in ("here", "there")
    )
    done = fab(pi, here, "pi.pods.setup", "--name", "x", "--ssh", there.ssh)
    assert done.code == 0, done
    assert (logins(here), logins(there)) == (0, 1)
    assert pi.state()["pods"]["x"]["ssh"] == there.ssh
    done = fab(pi, here, "pi.pods.setup", "--name", "x")
    assert (done.code, done.id) == (4, "host-key-changed")
    assert fab(pi, there, "pi.pods.setup", "--name", "x").code == 0
    assert pi.state()["pods"]["x"]["ssh"] == there.ssh
    done = fab(pi, here, "pi.pods.setup", "--name", "y")
    assert done.code == 0, done
    assert (logins(here), logins(there)) == (2, 2)
    assert pi.state()["pods"]["y"]["ssh"] == f"ssh {login()}@127.0.0.1 -p {here.port}"


@pytest.mark.long
def test_under_fabric_a_setup_takes_a_new_host_key_with_the_flag(pi: Pi, quick: Pod) -> None:
    words = ["pi.pods.setup", "--name", "x"]
    assert fab(pi, quick, *words).code == 0
    new_host_key(quick)
    assert fab(pi, quick, *words).code == 4
    done = fab(pi, quick, *words, "--new-host-key")
    assert done.code == 0, done
    assert pi.state()["pods"]["x"]["host_key"] == f"ssh-ed25519 {fingerprint(quick)}"
    assert fab(pi, quick, *words).code == 0
