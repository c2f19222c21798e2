"""Completion in the real bash, zsh and fish, installed by `pi --install-completion` and driven through a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.rig.command import SYSTEM_PATH, program
from tests.rig.patience import patient
from tests.rig.skips import skip

MODEL = {"model": "a/b", "port": 8001, "gpu": "0", "pid": 99}
PODS = {"box": {"ssh": "ssh h", "models": {"qwen": MODEL}}, "lab": {"ssh": "ssh l", "models": {}}}


class Terminal:
    """An interactive shell on a terminal."""

    def __init__(self, shell: str, environment: dict[str, str]) -> None:
        self.seen = ""
        self._pid, self._fd = pty.fork()
        if not self._pid:
            os.execve(shell, [shell, "-i"], environment)

    def types(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def shows(self, text: str) -> bool:
        """Wait for a text on the screen, ignoring colours and cursor movements."""
        deadline = time.monotonic() + patient(10)
        while text not in re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|\(B|[=>])|[\r\n]", "", self.seen):
            if time.monotonic() > deadline:
                return False
            if select.select([self._fd], [], [], 0.05)[0]:
                self.seen += os.read(self._fd, 65536).decode("utf-8", "replace")
        return True

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.close(self._fd)
        os.waitpid(self._pid, 0)


@pytest.fixture(params=["bash", "zsh", "fish"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    """A shell of a new user who has installed the completion."""
    shell = shutil.which(request.param) or skip("shells")
    (tmp_path / ".pi").mkdir()
    (tmp_path / ".pi" / "pods.json").write_text(json.dumps({"pods": PODS, "active": "box"}))
    environment = {
        "HOME": str(tmp_path),
        "SHELL": shell,
        "PATH": f"{program('pi').parent}:{SYSTEM_PATH}",
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    }
    for _ in range(2):  # the second time changes nothing
        subprocess.run([program("pi"), "--install-completion"], env=environment, check=True, capture_output=True)
    for start in (tmp_path / ".bashrc", tmp_path / ".zshrc"):
        assert not start.exists() or len(start.read_text().splitlines()) == 1
    (tmp_path / ".config" / "fish").mkdir(parents=True, exist_ok=True)
    terminal = Terminal(shell, environment)
    yield terminal
    terminal.close()


def test_tab_completes_names_pods_values_and_model_ids(terminal: Terminal) -> None:

    for keys, whole in (
        ("pi stop q\t", "pi stop qwen"),
        ("pi list --pod=l\t", "pi list --pod=lab"),
        ("pi pods ac\t", "pi pods active"),
        ("pi prompt qwen --api r\t", "--api responses"),
        ("pi plan openai/gpt-oss-2\t", "gpt-oss-20b"),
    ):
        terminal.types(keys)
        assert terminal.shows(whole), terminal.seen[-500:]
        terminal.seen = ""
        terminal.types("\x15")  # Ctrl+U empties the line
