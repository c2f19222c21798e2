"""The demo: this machine becomes a pod over real SSH, gets the real vLLM, and a small model answers.

Everything is in one folder: the pod's home, its sshd's keys and log. A second run reuses it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from chores.model import SIZE_NOTE, provide
from tests.rig.sshd import SshdPod, what_is_missing

ASK = ["prompt", "smol", "--no-tools", "--temperature", "0", "What is the opposite of hot?"]


def play(folder: Path, until: str = "") -> int:
    """Run the demo in `folder`, with until="setup" no further than that; return the first exit code that is not 0."""
    if until not in ("", "setup"):
        raise SystemExit(f"--until {until}: the demo can stop after its setup alone: --until setup")
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PI_API_KEY": os.environ.get("PI_API_KEY") or f"sk-{secrets.token_hex(24)}",
        "HF_TOKEN": os.environ.get("HF_TOKEN") or "none",
    }
    with pod(folder) as ssh:
        steps = Steps(environment)
        steps.say(f"pi is {Path(sys.executable).parent / 'pi'}; its notes are in {os.environ['PI_CONFIG_DIR']}")
        model = ""
        for words in (["pods", "setup", "demo", ssh], ["pods", "active", "demo"]):
            if steps.pi(*words):
                return steps.code
        if until:
            return 0
        with steps.timed("getting a small model"):
            model = provide(folder, folder / "pod" / "home", environment)
        steps.say(SIZE_NOTE)
        try:
            for words in (["start", model, "--name", "smol"], ASK, ["list"]):
                if steps.pi(*words):
                    return steps.code
        finally:
            stopped = steps.pi("stop", "smol")
        return stopped


class Steps:
    """Runs pi as a person would type it, and prints the time of each step."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self.code = 0

    def say(self, text: str) -> None:
        print(f"\n# {text}", flush=True)

    def pi(self, *words: str) -> int:
        shown = " ".join(f'"{word}"' if " " in word else word for word in words)
        print(f"\n$ pi {shown}", flush=True)
        began = time.monotonic()
        self.code = subprocess.run([Path(sys.executable).parent / "pi", *words], env=self._environment).returncode
        print(f"# {time.monotonic() - began:.1f} s", flush=True)
        return self.code

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        self.say(what)
        began = time.monotonic()
        yield
        print(f"# {time.monotonic() - began:.1f} s", flush=True)


@contextlib.contextmanager
def pod(folder: Path) -> Iterator[str]:
    """Yield the ssh command of a pod on this machine; stop its sshd at the end."""
    if missing := what_is_missing():
        raise SystemExit(missing)
    server = SshdPod(folder / "pod", port=_same_port(folder)).up()
    print(f"# a real sshd for the demo listens on 127.0.0.1:{server.port}; its pod's home is {server.home}", flush=True)
    try:
        yield server.ssh
    finally:
        server.down()


def _same_port(folder: Path) -> int | None:
    """Return the port of the last run, so the pod keeps its ssh string; None if new or taken."""
    settings = folder / "pod" / "sshd_config"
    if not settings.exists():
        return None
    port = int(settings.read_text().split()[1])
    with socket.socket() as probe:
        return port if probe.connect_ex(("127.0.0.1", port)) else None
