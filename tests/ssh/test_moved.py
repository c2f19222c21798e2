"""A pod at another address: `pi pods address` and `pi pods setup NAME "ssh NEW"`, and other machines that they refuse."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.rig.command import Pi
from tests.rig.pod import Pod, new_host_key
from tests.rig.sshd import free_port
from tests.ssh.conftest import FIRST_STEPS, NewPod
from tests.ssh.test_connections import logins


@pytest.fixture
def made(pi: Pi, new_pod: NewPod) -> Callable[[str], Pod]:
    """Makes pods that are set up in the first steps alone."""

    def make(name: str) -> Pod:
        pod = new_pod(name, environment={"PI_SETUP_ONLY": FIRST_STEPS})
        pi.ok("pods", "setup", name, pod.ssh)
        return pod

    return make


def move(pod: Pod) -> None:
    pod.down()
    pod.port = free_port()
    pod.up()


def forge(pi: Pi, name: str, **fields: Any) -> dict[str, Any]:
    """Change fields of a pod's entry; None removes one."""
    state = pi.state()
    entry = {**state["pods"][name], **fields}
    state["pods"][name] = {key: value for key, value in entry.items() if value is not None}
    pi.write(state)
    return dict(state["pods"][name])


REBOOTED = {"boot": "0aa9a2ac-6b0c-4b3c-9d36-6b9d3f0f3f11/7"}
"""What pods.json has of an earlier boot; all pods of these tests run on one machine."""


@pytest.mark.core
@pytest.mark.parametrize("verb", ["address", "setup"])
def test_a_pod_that_moved_keeps_its_entry_and_models(pi: Pi, made: Callable[[str], Pod], verb: str) -> None:
    box = made("box")
    pi.ok("start", box.model(), "--name", "qwen")
    before = forge(pi, "box", **REBOOTED, note="mine")
    move(box)
    assert pi("list").code == 3
    logged_in = logins(box)
    assert "the same machine" in pi.ok("pods", verb, "box", box.ssh)
    assert logins(box) == logged_in + 1
    after = pi.state()["pods"]["box"]
    assert after["boot"] != REBOOTED["boot"]
    assert after == {**before, "ssh": box.ssh, "boot": after["boot"]}
    assert "running" in pi.ok("list")


@pytest.mark.parametrize("verb", ["address", "setup"])
@pytest.mark.parametrize("is_known", [False, True], ids=["new address", "address of another pod"])
def test_another_host_key_is_another_machine(
    pi: Pi, made: Callable[[str], Pod], new_pod: NewPod, verb: str, is_known: bool
) -> None:
    made("box")
    other = made("other") if is_known else new_pod("other")
    before = pi.state()
    done = pi("pods", verb, "box", other.ssh)
    assert (done.code, done.id) == (4, "host-key-changed")
    assert before["pods"]["box"]["host_key"].split()[1] in done.err
    assert f"pi pods setup box '{other.ssh}' --new-host-key" in done.err
    assert pi.state() == before
    assert (other.home / ".pi" / "machine").exists() is is_known


COPIES = {
    "another id": ({}, True, "machine-changed"),
    "no id": ({}, False, "machine-changed"),
    "an entry without machine id": ({"machine": None}, True, "machine-unproven"),
    "an entry without host key": ({"host_key": None}, True, "machine-unproven"),
}


@pytest.mark.parametrize(("fields", "has_id", "id"), COPIES.values(), ids=COPIES.keys())
def test_a_machine_with_a_copied_host_key_is_refused(
    pi: Pi, made: Callable[[str], Pod], fields: dict[str, Any], has_id: bool, id: str
) -> None:
    box, copy = made("box"), made("copy")
    for name in ("host_key", "host_key.pub"):
        shutil.copy(box.folder / name, copy.folder / name)
    move(copy)
    if not has_id:
        (copy.home / ".pi" / "machine").unlink()
    before = forge(pi, "box", **REBOOTED, **fields)
    for verb in ("address", "setup"):
        done = pi("pods", verb, "box", copy.ssh)
        assert (done.code, done.id) == (4, id), done
        assert f"pi pods setup box '{copy.ssh}' --new-host-key" in done.err
    assert pi.state()["pods"]["box"] == before


@pytest.mark.long
def test_another_machine_replaces_a_pod_on_request(pi: Pi, made: Callable[[str], Pod], new_pod: NewPod) -> None:
    box = made("box")
    pi.ok("start", box.model(), "--name", "qwen")
    forge(pi, "box", **REBOOTED)
    other = new_pod("other", environment={"PI_SETUP_ONLY": FIRST_STEPS})
    done = pi("pods", "setup", "box", other.ssh, "--new-host-key")
    assert done.code == 0, done
    assert f"box was {box.ssh}; if that is another machine, it runs (and costs) until you end it" in done.err
    entry = pi.state()["pods"]["box"]
    assert (entry["ssh"], entry["models"]) == (other.ssh, {})
    assert "no models" in pi.ok("list")


@pytest.mark.long
def test_the_same_machine_with_a_new_host_key_keeps_its_models_on_request(pi: Pi, made: Callable[[str], Pod]) -> None:
    box = made("box")
    pi.ok("start", box.model(), "--name", "qwen")
    new_host_key(box)
    move(box)
    assert pi("pods", "address", "box", box.ssh).code == 4
    pi.ok("pods", "setup", "box", box.ssh, "--new-host-key")
    assert "running" in pi.ok("list")


def test_an_ssh_command_without_quotes_is_understood(pi: Pi, new_pod: NewPod) -> None:
    box = new_pod("box", environment={"PI_SETUP_ONLY": FIRST_STEPS})
    pi.ok("pods", "setup", "box", *shlex.split(box.ssh), "--vllm", "release")
    assert pi.state()["pods"]["box"]["ssh"] == box.ssh
    move(box)
    pi.ok("pods", "address", "box", *shlex.split(box.ssh))
    assert pi.state()["pods"]["box"]["ssh"] == box.ssh
