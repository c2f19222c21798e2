"""Bare Debian systems become pods: the real pod_setup.sh with each release's apt-get, bash, Python and sshd.

Stand-ins: vLLM, PyTorch and their packages are small wheels, as in the other tests over SSH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig import rootfs
from tests.rig.command import Pi
from tests.rig.rootfs import DebianPod
from tests.rig.skips import skip

pytestmark = [pytest.mark.rootfs, pytest.mark.timeout(1800)]

PATIENCE_S = 900

NewSystem = Callable[..., DebianPod]

UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nNAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
"""/etc/os-release of Ubuntu 24.04."""


@pytest.fixture
def system(pi: Pi, tmp_path: Path, wheels: Path) -> Iterator[NewSystem]:
    """Makes a machine with a bare system, whose package index has uv alone, and find-links with stand-ins."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"]).returncode:
        skip("namespace")
    if not shutil.which("debootstrap") or not rootfs.reaches_debian():
        skip("debootstrap")
    pods: list[DebianPod] = []

    def make(suite: str, *packages: str) -> DebianPod:
        pods.append(DebianPod(tmp_path / "box", rootfs.base(suite, *packages)))
        shutil.copytree(wheels, pods[0].path(rootfs.WHEELS))
        return pods[0]

    with rootfs.index() as address:
        pi.environment |= {"PIP_INDEX_URL": address, "PIP_FIND_LINKS": rootfs.WHEELS, "UV_PYTHON_DOWNLOADS": "never"}
        yield make
    for pod in pods:
        pod.down()


def becomes_a_pod(pi: Pi, pod: DebianPod) -> str:
    """Set a machine up, serve a model there, and set it up again. Returns what the first setup printed."""
    pod.up()
    done = pi("pods", "setup", "box", pod.ssh, timeout_s=PATIENCE_S)
    assert done.code == 0, done.all
    assert "\n  uv 0." in done.out and "from the package index" in done.out
    assert "GPUs none (CPU), vLLM 0.32.0+cpu, Python 3." in done.out
    pi.ok("start", "/root/models/m", "--name", "qwen")
    assert "qwen" in pi.ok("list") and "running" in pi.ok("list")
    pi.ok("stop", "qwen")
    assert "no models" in pi.ok("list")
    again = pi.ok("pods", "setup", "box", timeout_s=PATIENCE_S)
    assert "- system: already installed" in again and "nothing has changed since the last check" in again
    return done.out


def model(pod: DebianPod) -> None:
    pod.write("/root/models/m/config.json", '{"max_position_embeddings": 8192}')
    pod.write("/root/models/m/model.safetensors", "x" * 1024)


def test_debian_13(pi: Pi, system: NewSystem) -> None:
    pod = system("trixie")
    model(pod)
    text = becomes_a_pod(pi, pod)
    assert "Python 3.13." in text and "installed" in text


def test_debian_12(pi: Pi, system: NewSystem) -> None:
    pod = system("bookworm")
    model(pod)
    assert "Python 3.11." in becomes_a_pod(pi, pod)


def test_debian_11_with_a_python_that_is_new_enough(pi: Pi, system: NewSystem) -> None:
    """Its own is 3.9, so uv downloads one; here Debian 12's stands for that."""
    pod = system("bullseye")
    pod.give_python(rootfs.base("bookworm", "python3"))
    model(pod)
    assert "Python 3.11." in becomes_a_pod(pi, pod)


def test_debian_11_without_one_is_told_what_to_do(pi: Pi, system: NewSystem) -> None:
    done = pi("pods", "setup", "box", system("bullseye").up().ssh, timeout_s=PATIENCE_S)
    assert done.code == 1, done.all
    assert "no Python that vLLM supports (3.11 to 3.14) is installed" in done.err
    assert "install python3.12, or set UV_PYTHON_INSTALL_MIRROR" in done.err


def test_a_system_like_ubuntu_24_04_with_a_python_that_lacks_its_library(pi: Pi, system: NewSystem) -> None:
    """python3-minimal has no json; apt-get completes it before pi's first question."""
    pod = system("trixie", "python3-minimal")
    pod.write("/etc/os-release", UBUNTU)
    model(pod)
    text = becomes_a_pod(pi, pod)
    assert "Ubuntu 24.04.3 LTS" in text
