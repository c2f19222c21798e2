"""The end-to-end tier: real sshd pods, the real setup, the real vLLM, a real small model.

Everything lives in .e2e/ of the checkout. A second run finds vLLM and the model there and is minutes shorter.
PI_E2E_VENV names another venv with vLLM.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chores.model import provide
from tests.rig.ports import ports_to_ourselves
from tests.rig.sshd import SshdPod, what_is_missing

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".e2e"
KEY = "sk-e2e-0123456789abcdef-KEY"
TOKEN = "hf_e2e0123456789abcdefTOKEN"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker("e2e")
            if "pods" in getattr(item, "fixturenames", ()):
                item.add_marker("pods")


class Pi:
    """The installed `pi` command, with a config dir of its own."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.program = Path(sys.executable).parent / "pi"
        self.environment = {
            **os.environ,
            "PI_CONFIG_DIR": str(config),
            "PI_API_KEY": KEY,
            "HF_TOKEN": TOKEN,
            "NO_COLOR": "1",
        }

    def __call__(
        self, *words: str, timeout_s: float = 900, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *words],
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def ok(self, *words: str, **options: object) -> str:
        """Run it, expect success, return what it printed on stdout."""
        done = self(*words, **options)  # type: ignore[arg-type]
        assert done.returncode == 0, f"pi {' '.join(words)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def spawn(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.program, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="session")
def pi(tmp_path_factory: pytest.TempPathFactory) -> Pi:
    return Pi(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="session")
def pods(pi: Pi) -> Iterator[tuple[SshdPod, SshdPod]]:
    """Two pods, `one` and `two`, with homes of their own; both are set up, `two` with the venv of `one`."""
    missing = what_is_missing()
    if missing:
        pytest.fail(missing)
    with ports_to_ourselves():
        with setting_up():
            one = SshdPod(FOLDER / "one").up()
            pi.ok("pods", "setup", "one", one.ssh, timeout_s=1500)
        two = SshdPod(FOLDER / "two").up()
        venv = two.home / "venv"
        if not venv.exists():
            venv.symlink_to(one.home / "venv")
        pi.ok("pods", "setup", "two", two.ssh)
        yield one, two
        for name in ("one", "two"):
            pi("stop", "-y", "--pod", name)
        one.down()
        two.down()


@pytest.fixture(scope="session")
def venv(pi: Pi) -> Path:
    """The venv of pod `one`, with vLLM, for tests that need no pod: `inv e2e` runs them beside those with pods."""
    if given := os.environ.get("PI_E2E_VENV"):
        return Path(given)
    with setting_up():
        one = SshdPod(FOLDER / "one")
        venv = one.home / "venv"
        if not (venv / "bin" / "vllm").exists():
            pi.ok("pods", "setup", "one", one.up().ssh, timeout_s=1500)
            one.down()
    return venv


@contextmanager
def setting_up() -> Iterator[None]:
    """Let one run at a time set up pod `one`."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def model(pods: tuple[SshdPod, SshdPod], pi: Pi) -> str:
    """The small model: a hub id, or a directory on the pods."""
    return provide(FOLDER, pods[0].home, pi.environment)
