"""The second tier: the installed `pi` against real sshd pods whose `vllm`, `hf` and `nvidia-smi` are stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command import Pi, program
from tests.rig.pod import Pod, kill, make_venv, until
from tests.rig.ports import ports_to_ourselves
from tests.rig.skips import skip
from tests.rig.sshd import what_is_missing
from tests.rig.wheels import make_wheels

NewPod = Callable[..., Pod]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the first case of each test over SSH, except of those marked `every_case`, and leave out those marked `long`.

    With PI_TEST_CASES=long, the long ones stay; with PI_TEST_CASES=all, or without it, everything does.
    """
    chosen = os.environ.get("PI_TEST_CASES")
    if chosen not in ("first", "long"):
        return
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    seen: set[str] = set()
    for item in items:
        function = item.nodeid.partition("[")[0]
        is_further = function in seen and HERE in item.path.parents and not item.get_closest_marker("every_case")
        is_long = chosen == "first" and item.get_closest_marker("long")
        (left if is_further or is_long else kept).append(item)
        seen.add(function)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="session", autouse=True)
def sshd_is_here() -> None:
    missing = what_is_missing()
    if missing:
        pytest.fail(missing)


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `~/venv` with stand-ins, one for all pods."""
    return make_venv(tmp_path_factory.mktemp("pods") / "venv")


@contextmanager
def pods_in(folder: Path, venv: Path, pace: float = 1) -> Iterator[NewPod]:
    """Makes pods that are up and furnished. Afterwards only models that the pod has a note of may still run."""
    pods: list[Pod] = []

    def make(
        name: str = "box", *, bare: bool = False, environment: Mapping[str, str] | None = None, **options: Any
    ) -> Pod:
        pod = Pod(folder / name, name, environment={"PI_TEST_PACE": str(pace), **(environment or {})}, **options)
        pods.append(pod if bare else pod.furnish(venv))
        pod.up()
        return pod

    yield make
    until(lambda: not any(pod.other_processes() for pod in pods))
    strangers = {pod.name: pod.other_processes() for pod in pods}
    for pod in pods:
        pod.down()
        for pid in pod.processes():
            kill(pid)
    assert not any(strangers.values()), f"left behind on the pod: {strangers}"


@pytest.fixture
def pace(request: pytest.FixtureRequest) -> float:
    """How fast pi's time-outs run in a test marked `pace(0.2)`, on the laptop and on its pods."""
    marker = request.node.get_closest_marker("pace")
    return marker.args[0] if marker else 1


@pytest.fixture
def pi(tmp_path: Path, pace: float) -> Iterator[Pi]:
    command = Pi(tmp_path)
    command.environment["PI_TEST_PACE"] = str(pace)
    yield command
    if command.state_file.exists() and not command.expects_broken_state:
        json.loads(command.state_file.read_bytes())


@pytest.fixture
def new_pod(tmp_path: Path, venv: Path, pace: float) -> Iterator[NewPod]:
    """Makes pods for one test."""
    with ports_to_ourselves(), pods_in(tmp_path, venv, pace) as make:
        yield make


@pytest.fixture
def pod(new_pod: NewPod) -> Pod:
    """A pod that is up, and that pi does not know yet."""
    return new_pod()


@pytest.fixture
def box(pi: Pi, pod: Pod) -> Pod:
    """The one pod that pi knows, called `box`."""
    pi.knows(pod)
    return pod


@pytest.fixture
def two_pods(pi: Pi, new_pod: NewPod) -> tuple[Pod, Pod]:
    """The two pods that pi knows, `a` and `b`, with the folder of a model each."""
    both = new_pod("a"), new_pod("b")
    pi.knows(*both)
    for pod in both:
        pod.model()
    return both


@dataclass(frozen=True)
class Serving:
    """A pi, its one pod `box`, and the model that it has started there as `qwen`; `told` is what pi said then."""

    pi: Pi
    box: Pod
    model: str
    told: str


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, venv: Path) -> Iterator[Serving]:
    """A running model for tests that only look at it."""
    folder = tmp_path_factory.mktemp("serving")
    with ports_to_ourselves(), pods_in(folder, venv) as make:
        pi, box = Pi(folder), make()
        pi.knows(box)
        model = box.model()
        yield Serving(pi, box, model, pi.ok("start", model, "--name", "qwen"))


@pytest.fixture(scope="session")
def uv() -> Path:
    """The real uv, from the dev extras: a network namespace reaches no package index."""
    return program("uv")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a setup installs, stand-ins in place of vLLM and PyTorch."""
    return make_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def machine(new_pod: NewPod, uv: Path) -> Pod:
    """A machine that is no pod yet, without GPUs."""
    return new_pod(bare=True).bare_machine(uv)


TOKEN = "hf_0123456789'\"$(id)CANARY"


def set_mirrors(pi: Pi, wheels: Path) -> None:
    """Where packages come from, said where pi runs and nowhere else."""
    index = pi.home / "index"
    index.mkdir()
    pi.environment |= {
        "PIP_FIND_LINKS": str(wheels),
        "PIP_INDEX_URL": index.as_uri(),
        "PIP_EXTRA_INDEX_URL": index.as_uri(),
        "UV_PYTHON_DOWNLOADS": "never",
        "HF_TOKEN": TOKEN,
    }


@pytest.fixture
def mirrors(pi: Pi, wheels: Path) -> None:
    set_mirrors(pi, wheels)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """The socket of an ssh-agent without keys."""
    socket = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield socket
        running.terminate()


@dataclass(frozen=True)
class Ready:
    """A machine that has been set up as `box`; `told` and `noted` are what pi said then, on stdout and stderr."""

    pi: Pi
    machine: Pod
    told: str
    noted: str

    def set_up(self, *words: str, **environment: str) -> str:
        """What another setup says."""
        return self.pi.ok("pods", "setup", "box", self.machine.ssh, *words, **environment)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, venv: Path, uv: Path, wheels: Path) -> Iterator[Ready]:
    folder = tmp_path_factory.mktemp("ready")
    with ports_to_ourselves(), pods_in(folder, venv) as make:
        pi, machine = Pi(folder), make(bare=True).bare_machine(uv)
        set_mirrors(pi, wheels)
        done = pi("pods", "setup", "box", machine.ssh)
        assert done.code == 0, done
        yield Ready(pi, machine, done.out, done.err)


@pytest.fixture
def idle(ready: Ready) -> Iterator[Ready]:
    """The same, and no model stays when a test is over."""
    yield ready
    ready.pi.ok("stop", "-y")


MOUNT = """#!/bin/sh
printf '%s\\n' "$@" >~/received-mount
for target; do :; done
touch "$target/.mounted"
"""


SUDO = '#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n'
"""A sudo that asks for no password: on a pod without root, a setup gets as far as on one with it."""


@pytest.fixture
def mountable(machine: Pod) -> Pod:
    """A machine whose `mount` notes its words and marks its target; no test may mount anything for real."""
    machine.program("mount", MOUNT)
    machine.program("mount.nfs", "#!/bin/sh\n")
    machine.program("mountpoint", '#!/bin/sh\nfor target; do :; done\n[ -e "$target/.mounted" ]\n')
    machine.program("findmnt", "#!/bin/sh\necho server:/models\n")
    machine.program("sudo", SUDO)
    return machine


FIRST_STEPS = "system mount cache"
"""Of a setup: those that need no package index."""


@pytest.fixture
def quick(new_pod: NewPod) -> Pod:
    """A pod whose setup takes the first steps alone: what they install is there already."""
    return new_pod(environment={"PI_SETUP_ONLY": FIRST_STEPS}).bare_machine(Path("/bin/false"))


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, mounted with these options; only root may make one."""
    folder.mkdir()
    words: list[str | Path] = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
    made = subprocess.run(words, capture_output=True, text=True)
    if made.returncode:
        skip("mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
