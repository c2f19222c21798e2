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
from collections.abc import Iterable, Iterator
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
def terminal(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
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
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "fine.toml").touch()
    monkeypatch.chdir(tmp_path / "work")
    terminal = Terminal(shell, environment)
    yield terminal
    terminal.close()


WORDS = (
    ("pi stop q", "pi stop qwen"),
    ("pi list --pod=l", "pi list --pod=lab"),
    ("pi pods ac", "pi pods active"),
    ("pi prompt qwen --api r", "--api responses"),
    ("pi plan openai/gpt-oss-2", "gpt-oss-20b"),
)

OF_EACH_VERB = (
    ("pi connect q", "pi connect qwen"),
    ("pi connect qwen --to openc", "--to opencode"),
    ("pi top -p l", "pi top -p lab"),
    ("pi top --on", "pi top --once"),
    ("pi bench --con", "pi bench --concurrency"),
    ("pi door sta", "pi door status"),
    ("pi door --pin q", "pi door --pin qwen"),
    ("pi move qwen l", "pi move qwen lab"),
    ("pi move qwen lab --from b", "--from box"),
    ("pi scale q", "pi scale qwen"),
    ("pi pull openai/gpt-oss-2", "gpt-oss-20b"),
    ("pi cache r", "pi cache rm"),
    ("pi up fi", "pi up fine.toml"),
    ("pi down --dr", "pi down --dry-run"),
    ("pi export --pod box,l", "--pod box,lab"),
    ("pi doctor l", "pi doctor lab"),
    ("pi restart q", "pi restart qwen"),
    ("pi wait q", "pi wait qwen"),
    ("pi wait qwen --ti", "--timeout"),
    ("pi key rev", "pi key revoke"),
    ("pi tunnel qwen --cl", "--close"),
)
"""Of verbs, flags, their values, names, pods, model ids and files."""


def test_tab_completes_names_pods_values_and_model_ids(terminal: Terminal) -> None:
    require_completed(terminal, (*WORDS, ("pi up fi", "pi up fine.toml")))


@pytest.mark.slow
def test_tab_completes_the_words_of_each_verb(terminal: Terminal) -> None:
    require_completed(terminal, OF_EACH_VERB)


def require_completed(terminal: Terminal, words: Iterable[tuple[str, str]]) -> None:
    for typed, whole in words:
        terminal.types(f"{typed}\t")
        assert terminal.shows(whole), (typed, terminal.seen[-500:])
        terminal.seen = ""
        terminal.types("\x15")  # Ctrl+U empties the line
